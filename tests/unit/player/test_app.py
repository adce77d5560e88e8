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
from airflow_provider_mps.player import audio_object, own_turn
from airflow_provider_mps.player.recorded import RecordedAudio, UnreadableXComError

AUDIO = speak("A few words to be heard.", voice="tone", style=Style())


@pytest.fixture
def listen(monkeypatch, tmp_path):
    """Ask the player, where the task instance has recorded a path."""
    app = player.app
    for dependency in player.MAY_READ:
        monkeypatch.setitem(app.dependency_overrides, dependency.dependency, lambda: None)
    monkeypatch.setattr(player, "create_session", nullcontext)
    (tmp_path / "clip é.wav").write_bytes(AUDIO)
    client = TestClient(app)

    def ask(what, path=f"file://{tmp_path}/clip é.wav", headers=None, method="GET", find=None, **query):
        recorded = None if path is None else RecordedAudio(path, "voice-1", 1.5)
        monkeypatch.setattr(player, "find_recorded", find or (lambda *_: recorded))
        ids = {"dag_id": "d", "run_id": "r", "task_id": "t", **query}
        return client.request(method, f"/{what}", params=ids, headers=headers or {})

    return ask


@pytest.mark.parametrize("what", ["details", "audio", "waveform"])
def test_who_is_not_signed_in_is_turned_away_before_anything_is_looked_up(what):
    answer = TestClient(player.app).get(f"/{what}", params={"dag_id": "d", "run_id": "r", "task_id": "t"})
    assert answer.status_code == 401


def test_nothing_but_these_and_the_page_is_served():
    assert {route.path for route in player.app.routes} == {"/details", "/audio", "/waveform", ""}


def test_the_details_are_what_was_pushed_and_what_is_there(listen, tmp_path):
    assert listen("details").json() == {
        "path": f"file://{tmp_path}/clip é.wav",
        "name": "clip é.wav",
        "size": len(AUDIO),
        "VoiceId": "voice-1",
        "duration": 1.5,
    }


def test_the_whole_is_sent_with_its_length_and_kind(listen):
    answer = listen("audio")
    assert answer.status_code == 200
    assert answer.content == AUDIO
    assert answer.headers["Content-Type"] == "audio/wav"
    assert answer.headers["Content-Length"] == str(len(AUDIO))
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_range_is_sent_as_such(listen):
    answer = listen("audio", headers={"Range": "bytes=100-199"})
    assert answer.status_code == 206
    assert answer.content == AUDIO[100:200]
    assert answer.headers["Content-Range"] == f"bytes 100-199/{len(AUDIO)}"


def test_a_range_behind_the_end_is_refused(listen):
    answer = listen("audio", headers={"Range": f"bytes={len(AUDIO)}-"})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(AUDIO)}"


def test_a_range_of_what_has_changed_is_answered_with_the_whole(listen):
    etag = listen("audio").headers["ETag"]
    assert listen("audio", headers={"Range": "bytes=0-9", "If-Range": etag}).status_code == 206
    assert listen("audio", headers={"Range": "bytes=0-9", "If-Range": '"other"'}).status_code == 200


def test_a_download_is_an_attachment_with_its_own_name(listen):
    assert listen("audio", download="true").headers["Content-Disposition"] == (
        "attachment; filename*=UTF-8''clip%20%C3%A9.wav"
    )
    assert listen("audio").headers["Content-Disposition"].startswith("inline")


def test_the_waveform_is_bars_from_0_to_1(listen):
    bars = listen("waveform").json()["bars"]
    assert bars
    assert all(0 <= bar <= 1 for bar in bars)


@pytest.mark.parametrize("what", ["details", "audio", "waveform"])
@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (None, "There is nothing to hear: this task instance has stored no audio."),
        ("file:///nowhere/clip.wav", "is not there any more, or not on the machine of Airflow's API server."),
        ("file:///etc/hostname", "What is at file:///etc/hostname is no audio."),
        ("file:///etc", "What is at file:///etc is no audio."),
        ("http://127.0.0.1/clip.wav", "is no place in object storage that this Airflow knows."),
        ("clip.wav", "is no place in object storage that this Airflow knows."),
        ("s3://no_such_conn@/clip.wav", "cannot be read"),
    ],
)
def test_where_there_is_nothing_to_hear_a_sentence_says_why(listen, what, path, sentence):
    answer = listen(what, path)
    assert answer.status_code == 404
    assert sentence in answer.json()["detail"]


def test_what_shrinks_while_it_is_sent_is_not_passed_off_as_whole(listen, tmp_path, monkeypatch):
    from airflow_provider_mps.player.audio_object import AudioObject

    find = AudioObject.find

    def find_and_truncate(path):
        found = find(path)
        (tmp_path / "clip é.wav").write_bytes(AUDIO[:100])
        return found

    monkeypatch.setattr(AudioObject, "find", find_and_truncate)
    with pytest.raises(EOFError, match="has changed while it was read"):
        listen("audio")


def test_the_page_is_served_without_anything_from_other_hosts():
    client = TestClient(player.app)
    for name in ("listen.html", "listen.js", "listen.css", "listen.svg"):
        answer = client.get(f"/{name}")
        assert answer.status_code == 200
        assert "https://" not in answer.text
    assert "default-src 'none'" in client.get("/listen.html").text


@pytest.mark.parametrize("what", ["details", "audio"])
def test_who_asks_for_the_head_only_gets_no_more(listen, what):
    answer = listen(what, method="HEAD")
    assert (answer.status_code, answer.content) == (200, b"")
    assert listen("audio", method="HEAD").headers["Content-Length"] == str(len(AUDIO))


def test_who_has_it_already_is_told_so(listen):
    etag = listen("audio").headers["ETag"]
    answer = listen("audio", headers={"If-None-Match": etag})
    assert (answer.status_code, answer.content) == (304, b"")


@pytest.mark.parametrize("what", ["details", "audio", "waveform"])
def test_a_path_that_no_answer_can_hold_is_told_all_the_same(listen, what, caplog):
    answer = listen(what, "file:///tmp/\ud800.wav")
    assert answer.status_code == 404
    assert "file:///tmp/\\ud800.wav cannot be read" in caplog.text
    assert caplog.text.encode()  # a log file holds it, and a worker of pytest-xdist can report it
    assert "/tmp/?.wav" in answer.json()["detail"]


def test_a_file_whose_name_is_no_utf_8_is_played(listen, tmp_path):
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff.wav")).write_bytes(AUDIO)
    path = f"file://{tmp_path}/" + os.fsdecode(b"\xff.wav")
    assert listen("details", path).json()["name"] == "?.wav"
    assert listen("audio", path).content == AUDIO


def test_an_index_that_no_database_can_hold_is_refused(listen):
    assert listen("details", map_index=10**30).status_code == 422


def test_what_a_storage_says_is_not_quoted_as_it_may_hold_a_password(listen, monkeypatch, caplog):
    extra = {"endpoint_url": "http://minio:Passw0rdXYZ@127.0.0.1:9", "region_name": "us-east-1"}
    monkeypatch.setenv("AIRFLOW_CONN_LEAKY", json.dumps({"conn_type": "aws", "extra": extra}))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    answer = listen("details", "s3://leaky@bucket/clip.wav")
    assert answer.status_code == 404
    assert "s3://leaky@bucket/clip.wav cannot be read (" in answer.json()["detail"]
    assert "Passw0rd" not in answer.text + caplog.text
    assert "s3://leaky@bucket/clip.wav cannot be read" in caplog.text


def test_without_the_connection_of_its_path_nothing_is_read_as_somebody_else(listen):
    answer = listen("audio", "s3://no_such_conn@bucket/clip.wav")
    assert answer.json()["detail"] == "s3://no_such_conn@bucket/clip.wav cannot be read: its connection does not exist."


def test_a_connection_that_has_changed_is_used_as_it_is_now(monkeypatch):
    def connect(port):
        extra = {"endpoint_url": f"http://127.0.0.1:{port}", "region_name": "us-east-1"}
        connection = {"conn_type": "aws", "login": "a", "password": "b", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_TURNING", json.dumps(connection))
        return audio_object._filesystem("s3://turning@bucket/clip.wav", "s3")

    first, again, changed = connect(1), connect(1), connect(2)
    assert first is again
    assert changed is not first
    assert changed.endpoint_url.endswith(":2")


def test_a_store_that_does_not_answer_takes_no_thread_from_the_server(listen, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(own_turn, "_THREADS", CapacityLimiter(1))
    monkeypatch.setattr(player, "in_turn", partial(own_turn.in_turn, seconds=0.2))
    monkeypatch.setattr(player.AudioObject, "find", lambda _: released.wait(20))
    try:
        for _ in range(3):
            answer = listen("details")
            assert answer.status_code == 504
            assert "does not answer, or others wait for it" in answer.json()["detail"]
    finally:
        released.set()


def test_signed_url_that_was_returned_is_not_quoted(listen, caplog):
    answer = listen("details", "https://bucket.example.com/clip.wav?q-signature=5ecret")
    assert answer.status_code == 404
    assert "5ecret" not in answer.text + caplog.text


def test_storage_that_fails_while_it_is_read_is_not_quoted(tmp_path, monkeypatch):
    (tmp_path / "clip.wav").write_bytes(AUDIO)
    audio = player.AudioObject.find(f"file://{tmp_path}/clip.wav")

    def fail(*_, **__):
        raise RuntimeError("https://user:Passw0rd@example.com/clip.wav?q-signature=5ecret")

    monkeypatch.setattr(audio._fs, "cat_file", fail)
    with pytest.raises(OSError, match="cannot be read any further") as caught:
        list(audio.read(0, audio.size))
    assert "example.com" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("what", ["details", "audio", "waveform"])
def test_xcom_that_its_backend_cannot_read_is_explained(listen, what):
    def find(*_):
        raise UnreadableXComError("The XCom return_value of this task instance cannot be read: why.")

    answer = listen(what, find=find)
    assert answer.status_code == 404
    assert answer.json()["detail"] == "The XCom return_value of this task instance cannot be read: why."


@pytest.mark.parametrize("name", ["json", "gone.json"])
def test_xcom_that_was_not_read_from_its_storage_is_explained(listen, monkeypatch, tmp_path, name):
    monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH", f"file://{tmp_path}")
    (tmp_path / "json").write_text('"file:///clips/clip.wav"')
    answer = listen("details", f"file://{tmp_path}/{name}")
    assert answer.status_code == 404
    assert "lacks the [core] xcom_backend that the workers have" in answer.json()["detail"]
    assert listen("details").status_code == 200  # an audio in the same folder


def test_xcom_backend_that_does_not_answer_takes_no_thread_from_the_server(listen, monkeypatch):
    released = threading.Event()
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", "tests.xcom_backends.FileXComBackend")
    monkeypatch.setattr(own_turn, "_THREADS", CapacityLimiter(1))
    monkeypatch.setattr(player, "in_turn", partial(own_turn.in_turn, seconds=0.2))
    try:
        for _ in range(2):
            answer = listen("details", find=lambda *_: released.wait(20))
            assert answer.status_code == 504
            assert "The storage of XComs does not answer" in answer.json()["detail"]
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
    answer = listen("audio", f"file://{tmp_path}/x")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == content_type


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
def test_what_does_not_begin_as_audio_is_not_read(listen, tmp_path, head):
    (tmp_path / "x").write_bytes(head)
    assert listen("audio", f"file://{tmp_path}/x").status_code == 404
