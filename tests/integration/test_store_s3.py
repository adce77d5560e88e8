"""Storing to a real S3 server, which checks signatures: rclone."""

import io
import json
import os
import signal
import socket
import subprocess
import time
import wave

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.audio import store_audio
from airflow_provider_mps.errors import AudioTransferError, DestinationError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.text_to_speech import TextToSpeechToObjectStorageOperator
from airflow_provider_mps.uncommitted import open_uncommitted
from tests.programs import require_program
from tests.scripted_server import Reply, ScriptedServer, audio_reply

LONG = os.urandom(60 * 1024 * 1024)
"""More than s3fs puts into one part, so that an upload has several."""


class S3:
    def __init__(self, port, folder):
        self.url = f"http://127.0.0.1:{port}"
        self.folder = folder
        # Airflow keeps a filesystem per connection id for the life of the process.
        self.conn_id = f"s3_{port}"
        self.root = f"s3://{self.conn_id}@clips/"

    def connection(self, key="s3-key", secret="s3-secret"):
        return json.dumps(
            {
                "conn_type": "aws",
                "login": key,
                "password": secret,
                "extra": {"endpoint_url": self.url, "region_name": "us-east-1"},
            }
        )

    def seen(self, key):
        file = self.folder / "clips" / key
        return file.read_bytes() if file.exists() else None

    def unfinished_uploads(self):
        fs = ObjectStoragePath(self.root).fs
        try:
            return fs.call_s3("list_multipart_uploads", Bucket="clips").get("Uploads", [])
        except FileNotFoundError:  # rclone's way to say that there are none
            return []


@pytest.fixture
def s3(tmp_path, monkeypatch):
    program = require_program("rclone")
    folder = tmp_path / "s3"
    (folder / "clips").mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [
            program,
            "serve",
            "s3",
            "--addr",
            f"127.0.0.1:{port}",
            "--auth-key",
            "s3-key,s3-secret",
            "--vfs-cache-mode",
            "off",
            str(folder),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "RCLONE_CONFIG": "/dev/null"},
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "rclone did not start"
                time.sleep(0.05)
        s3 = S3(port, folder)
        monkeypatch.setenv(f"AIRFLOW_CONN_{s3.conn_id.upper()}", s3.connection())
        yield s3
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(10)


class Instance:
    def __init__(self):
        self.xcoms = {}

    def xcom_push(self, key, value):
        self.xcoms[key] = value


def store(s3, url, key, log):
    store_audio(url, ObjectStoragePath(f"{s3.root}{key}"), fresh_url=lambda: url, subject="task task-1", log=log)


@pytest.fixture
def log():
    import logging

    return logging.getLogger("test")


def test_a_clip_is_stored_in_s3_with_the_connection_in_the_path(s3, emulator):
    task_id = MpsHook().submit_text_to_speech("hello", "voice-1")
    instance = Instance()
    path = TextToSpeechToObjectStorageOperator(
        task_id="store", mps_task_id=task_id, destination=f"{s3.root}day/"
    ).execute({"ti": instance})
    assert path.startswith(f"{s3.root}day/")
    audio = s3.seen(path.removeprefix(s3.root))
    with wave.open(io.BytesIO(audio)) as speech:
        assert instance.xcoms["duration"] == speech.getnframes() / speech.getframerate()


def test_a_long_audio_in_several_parts_is_stored_whole_even_when_the_download_breaks(s3, log):
    broken = lambda request: audio_reply(LONG, request, cut_at=55 * 1024 * 1024)  # noqa: E731
    with ScriptedServer(broken, lambda request: audio_reply(LONG, request)) as server:
        store(s3, f"{server.url}/long.wav", "long.wav", log)
    assert s3.seen("long.wav") == LONG
    assert s3.unfinished_uploads() == []


@pytest.mark.parametrize("audio", [b"short", LONG], ids=["one part", "several parts"])
def test_what_was_not_verified_is_never_visible_and_no_upload_is_left(s3, log, audio, no_waiting):
    (s3.folder / "clips" / "a.wav").write_bytes(b"older good object")
    wrong = Reply(audio, 200, {"x-cos-hash-crc64ecma": "1"})
    with ScriptedServer(wrong) as server, pytest.raises(AudioTransferError, match="CRC-64"):
        store(s3, f"{server.url}/a.wav", "a.wav", log)
    assert s3.seen("a.wav") == b"older good object"
    assert s3.unfinished_uploads() == []


def test_a_missing_bucket_is_an_error_that_says_so(s3, log):
    with ScriptedServer(audio_reply(b"audio")) as server, pytest.raises(DestinationError, match="bucket"):
        store_audio(
            f"{server.url}/a.wav",
            ObjectStoragePath(f"s3://{s3.conn_id}@nosuchbucket/a.wav"),
            fresh_url=lambda: "",
            subject="task task-1",
            log=log,
        )


def test_a_refused_key_is_an_error_about_the_permission(s3, log, monkeypatch):
    monkeypatch.setenv(f"AIRFLOW_CONN_{s3.conn_id.upper()}", s3.connection(secret="wrong"))
    with (
        ScriptedServer(audio_reply(b"audio")) as server,
        pytest.raises((DestinationError, AudioTransferError)) as caught,
    ):
        store(s3, f"{server.url}/a.wav", "a.wav", log)
    assert f"{s3.root}a.wav" in str(caught.value)
    assert s3.seen("a.wav") is None


def test_a_discarded_clip_starts_no_upload_when_it_is_closed_as_the_garbage_collector_does(s3, monkeypatch):
    path = ObjectStoragePath(f"{s3.root}a.wav")
    calls = []
    call = type(path.fs).call_s3

    def listen(fs, method, *args, **kwargs):
        calls.append(method)
        return call(fs, method, *args, **kwargs)

    monkeypatch.setattr(type(path.fs), "call_s3", listen)
    file = open_uncommitted(path)
    file.write(b"audio")
    file.discard()
    file._file.close()
    assert calls == []
