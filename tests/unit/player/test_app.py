"""What the view asks for. Who may ask is specified in tests/browser, against a whole Airflow."""

import json
import os
import threading
import traceback
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
from anyio import CapacityLimiter
from fastapi.testclient import TestClient

from airflow_provider_mps.emulator.speech import Style, speak
from airflow_provider_mps.player import app as player
from airflow_provider_mps.player import audio_file, threadpool
from airflow_provider_mps.player.stored_audio import RecordedAudio, UnreadableXComError

AUDIO = speak("A few words to be heard.", voice="tone", style=Style())


@pytest.fixture
def listen(monkeypatch, tmp_path):
    """Ask the player, where the task instance has recorded a path."""
    app = player.app
    for dependency in player.READ_PERMISSIONS:
        monkeypatch.setitem(app.dependency_overrides, dependency.dependency, lambda: None)
    monkeypatch.setattr(player, "create_session", nullcontext)
    (tmp_path / "clip é.wav").write_bytes(AUDIO)
    client = TestClient(app)

    def ask(what, path=f"file://{tmp_path}/clip é.wav", headers=None, method="GET", find=None, **query):
        recorded = None if path is None else RecordedAudio(path, "voice-1", 1.5)
        monkeypatch.setattr(player, "find_recorded_audio", find or (lambda *_: recorded))
        ids = {"dag_id": "d", "run_id": "r", "task_id": "t", **query}
        return client.request(method, f"/{what}", params=ids, headers=headers or {})

    return ask


@pytest.mark.parametrize("what", ["details", "audio", "waveform"])
def test_listen_api_requires_sign_in_before_any_lookup(what):
    response = TestClient(player.app).get(f"/{what}", params={"dag_id": "d", "run_id": "r", "task_id": "t"})
    assert response.status_code == 401


def test_app_serves_only_these_routes_and_the_page():
    assert {route.path for route in player.app.routes} == {"/details", "/audio", "/waveform", ""}


def test_details_combine_xcoms_and_file(listen, tmp_path):
    assert listen("details").json() == {
        "path": f"file://{tmp_path}/clip é.wav",
        "name": "clip é.wav",
        "size": len(AUDIO),
        "VoiceId": "voice-1",
        "duration": 1.5,
    }


def test_whole_audio_has_length_and_content_type(listen):
    response = listen("audio")
    assert response.status_code == 200
    assert response.content == AUDIO
    assert response.headers["Content-Type"] == "audio/wav"
    assert response.headers["Content-Length"] == str(len(AUDIO))
    assert response.headers["Accept-Ranges"] == "bytes"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_range_is_sent_as_partial_content(listen):
    response = listen("audio", headers={"Range": "bytes=100-199"})
    assert response.status_code == 206
    assert response.content == AUDIO[100:200]
    assert response.headers["Content-Range"] == f"bytes 100-199/{len(AUDIO)}"


def test_range_after_the_end_is_rejected(listen):
    response = listen("audio", headers={"Range": f"bytes={len(AUDIO)}-"})
    assert response.status_code == 416
    assert response.headers["Content-Range"] == f"bytes */{len(AUDIO)}"


def test_range_of_changed_audio_gets_the_whole(listen):
    etag = listen("audio").headers["ETag"]
    assert listen("audio", headers={"Range": "bytes=0-9", "If-Range": etag}).status_code == 206
    assert listen("audio", headers={"Range": "bytes=0-9", "If-Range": '"other"'}).status_code == 200


def test_download_is_an_attachment_with_its_name(listen):
    assert listen("audio", download="true").headers["Content-Disposition"] == (
        "attachment; filename*=UTF-8''clip%20%C3%A9.wav"
    )
    assert listen("audio").headers["Content-Disposition"].startswith("inline")


def test_waveform_is_bars_from_0_to_1(listen):
    bars = listen("waveform").json()["bars"]
    assert bars
    assert all(0 <= bar <= 1 for bar in bars)


@pytest.mark.parametrize("what", ["details", "audio", "waveform"])
@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (
            None,
            "This task instance has stored no audio. Open the Listen tab of a successful task",
        ),
        (
            "file:///nowhere/clip.wav",
            "does not exist. It was moved or deleted, or is not on the machine of Airflow's API server.",
        ),
        ("file:///etc/hostname", "file:///etc/hostname is not an audio file."),
        ("file:///etc", "file:///etc is not an audio file."),
        ("http://127.0.0.1/clip.wav", "is not a path in object storage that Airflow's API server supports."),
        ("clip.wav", "is not a path in object storage that Airflow's API server supports."),
        ("s3://no_such_conn@/clip.wav", "cannot be read"),
    ],
)
def test_missing_audio_is_explained(listen, what, path, sentence):
    response = listen(what, path)
    assert response.status_code == 404
    assert sentence in response.json()["detail"]


def test_audio_that_shrinks_while_sent_is_not_complete(listen, tmp_path, monkeypatch):
    from airflow_provider_mps.player.audio_file import AudioFile

    find = AudioFile.find

    def find_and_truncate(path):
        found = find(path)
        (tmp_path / "clip é.wav").write_bytes(AUDIO[:100])
        return found

    monkeypatch.setattr(AudioFile, "find", find_and_truncate)
    with pytest.raises(EOFError, match="changed while it was read"):
        listen("audio")


def test_page_loads_nothing_from_other_hosts():
    client = TestClient(player.app)
    for name in ("listen.html", "listen.js", "listen.css", "listen.svg"):
        response = client.get(f"/{name}")
        assert response.status_code == 200
        assert "https://" not in response.text
    assert "default-src 'none'" in client.get("/listen.html").text


@pytest.mark.parametrize("what", ["details", "audio"])
def test_head_request_gets_no_body(listen, what):
    response = listen(what, method="HEAD")
    assert (response.status_code, response.content) == (200, b"")
    assert listen("audio", method="HEAD").headers["Content-Length"] == str(len(AUDIO))


def test_unchanged_audio_gets_not_modified(listen):
    etag = listen("audio").headers["ETag"]
    response = listen("audio", headers={"If-None-Match": etag})
    assert (response.status_code, response.content) == (304, b"")


@pytest.mark.parametrize("what", ["details", "audio", "waveform"])
def test_path_with_surrogates_is_reported(listen, what, caplog):
    response = listen(what, "file:///tmp/\ud800.wav")
    assert response.status_code == 404
    assert "file:///tmp/\\ud800.wav cannot be read" in caplog.text
    assert caplog.text.encode()  # a log file holds it, and a worker of pytest-xdist can report it
    assert "/tmp/?.wav" in response.json()["detail"]


def test_file_whose_name_is_not_utf_8_is_played(listen, tmp_path):
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff.wav")).write_bytes(AUDIO)
    path = f"file://{tmp_path}/" + os.fsdecode(b"\xff.wav")
    assert listen("details", path).json()["name"] == "?.wav"
    assert listen("audio", path).content == AUDIO


def test_map_index_out_of_range_is_rejected(listen):
    assert listen("details", map_index=10**30).status_code == 422


def test_storage_error_is_not_quoted(listen, monkeypatch, caplog):
    extra = {"endpoint_url": "http://minio:Passw0rdXYZ@127.0.0.1:9", "region_name": "us-east-1"}
    monkeypatch.setenv("AIRFLOW_CONN_LEAKY", json.dumps({"conn_type": "aws", "extra": extra}))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    response = listen("details", "s3://leaky@bucket/clip.wav")
    assert response.status_code == 404
    assert "s3://leaky@bucket/clip.wav cannot be read (" in response.json()["detail"]
    assert "Passw0rd" not in response.text + caplog.text
    assert "s3://leaky@bucket/clip.wav cannot be read" in caplog.text


def test_missing_connection_is_not_replaced_by_default_keys(listen):
    response = listen("audio", "s3://no_such_conn@bucket/clip.wav")
    assert response.json()["detail"] == (
        "s3://no_such_conn@bucket/clip.wav cannot be read: its connection does not exist. Create it under Admin → "
        "Connections."
    )


def test_changed_connection_is_used(monkeypatch):
    def connect(port):
        extra = {"endpoint_url": f"http://127.0.0.1:{port}", "region_name": "us-east-1"}
        connection = {"conn_type": "aws", "login": "a", "password": "b", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_TURNING", json.dumps(connection))
        return audio_file._get_filesystem("s3://turning@bucket/clip.wav", "s3")

    first, again, changed = connect(1), connect(1), connect(2)
    assert first is again
    assert changed is not first
    assert changed.endpoint_url.endswith(":2")


def test_hanging_storage_blocks_no_server_thread(listen, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(threadpool, "_THREADS", CapacityLimiter(1))
    monkeypatch.setattr(player, "run_in_limited_thread", partial(threadpool.run_in_limited_thread, seconds=0.2))
    monkeypatch.setattr(player.AudioFile, "find", lambda _: released.wait(20))
    try:
        for _ in range(3):
            response = listen("details")
            assert response.status_code == 504
            assert "did not respond in time" in response.json()["detail"]
    finally:
        released.set()


def test_returned_signed_url_is_not_quoted(listen, caplog):
    response = listen("details", "https://bucket.example.com/clip.wav?q-signature=5ecret")
    assert response.status_code == 404
    assert "5ecret" not in response.text + caplog.text


def test_storage_error_while_reading_is_not_quoted(tmp_path, monkeypatch):
    (tmp_path / "clip.wav").write_bytes(AUDIO)
    audio = player.AudioFile.find(f"file://{tmp_path}/clip.wav")

    def fail(*_, **__):
        raise RuntimeError("https://user:Passw0rd@example.com/clip.wav?q-signature=5ecret")

    monkeypatch.setattr(audio._fs, "cat_file", fail)
    with pytest.raises(OSError, match="could not be read to its end") as caught:
        list(audio.read(0, audio.size))
    assert "example.com" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("what", ["details", "audio", "waveform"])
def test_xcom_that_its_backend_cannot_read_is_explained(listen, what):
    def find(*_):
        raise UnreadableXComError("The XCom return_value of this task instance cannot be read: why.")

    response = listen(what, find=find)
    assert response.status_code == 404
    assert response.json()["detail"] == "The XCom return_value of this task instance cannot be read: why."


@pytest.mark.parametrize("name", ["json", "gone.json"])
def test_xcom_not_read_from_its_storage_is_explained(listen, monkeypatch, tmp_path, name):
    monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH", f"file://{tmp_path}")
    (tmp_path / "json").write_text('"file:///clips/clip.wav"')
    response = listen("details", f"file://{tmp_path}/{name}")
    assert response.status_code == 404
    assert "does not have the [core] xcom_backend that the workers have" in response.json()["detail"]
    assert listen("details").status_code == 200  # an audio in the same folder


def test_hanging_xcom_backend_blocks_no_server_thread(listen, monkeypatch):
    released = threading.Event()
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", "tests.xcom_backends.FileXComBackend")
    monkeypatch.setattr(threadpool, "_THREADS", CapacityLimiter(1))
    monkeypatch.setattr(player, "run_in_limited_thread", partial(threadpool.run_in_limited_thread, seconds=0.2))
    try:
        for _ in range(2):
            response = listen("details", find=lambda *_: released.wait(20))
            assert response.status_code == 504
            assert "The storage of XComs did not respond in time" in response.json()["detail"]
    finally:
        released.set()


@pytest.mark.parametrize(
    ("head", "content_type"),
    [
        *((bytes([0xFF, second]) + b"\x90\xc4", "audio/mpeg") for second in (0xE2, 0xE3, 0xF2, 0xF3, 0xFA, 0xFB)),
        *((bytes([0xFF, second]) + b"\x50\x80", "audio/aac") for second in (0xF0, 0xF1, 0xF8, 0xF9)),
        *((b"ID3" + bytes([version, 0, 0, 0, 0, 0, 10]), "audio/mpeg") for version in (2, 3, 4)),
        (b"RIFF\0\0\0\0WAVE", "audio/wav"),
        (b"RIFX\0\0\0\0WAVE", "audio/wav"),
        (b"RF64\xff\xff\xff\xffWAVE", "audio/wav"),
        (b"fLaC", "audio/flac"),
        (b"OggS", "audio/ogg"),
        (b"\0\0\0\x20ftypM4A ", "audio/mp4"),
    ],
)
def test_audio_is_recognised_by_its_first_bytes(listen, tmp_path, head, content_type):
    (tmp_path / "x").write_bytes(head + bytes(100))
    response = listen("audio", f"file://{tmp_path}/x")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == content_type


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff",
        b"\xff\xfea\0",  # UTF-16
        b"\xff\xd8\xff\xe0",  # JPEG
        b"\xff\xea\x90",  # no version of MPEG
        b"RIFF\0\0\0\0AVI ",
        b"RF64",
    ],
)
def test_file_that_does_not_begin_as_audio_is_not_read(listen, tmp_path, head):
    (tmp_path / "x").write_bytes(head)
    assert listen("audio", f"file://{tmp_path}/x").status_code == 404
