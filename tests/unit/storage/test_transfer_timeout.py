"""``transfer_timeout`` ends every kind of wait; without it, each would last 20 seconds or longer."""

import logging
import threading
import time

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.exceptions import AudioTransferError, AudioTransferStopped
from airflow_provider_mps.storage.deadline import Deadline
from airflow_provider_mps.storage.http import open_url
from airflow_provider_mps.storage.transfer import store_audio
from tests.certificates import make_self_signed_certificate
from tests.scripted_server import HANG, Reply, ScriptedServer, make_audio_reply

AUDIO = bytes(range(250)) * 10
CHUNKED = {"Content-Length": "", "Transfer-Encoding": "chunked"}
MAX_SECONDS = 15
"""Far more than each takes, and less than the waits that the timeout ends."""


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "clip.wav"
    file.write_bytes(b"an older good object")
    return file


def store(url, file, **options):
    return store_audio(
        url,
        ObjectStoragePath(f"file://{file}"),
        subject="task task-1",
        log=logging.getLogger("test"),
        **{"get_fresh_url": lambda: url, "timeout": 0.3, **options},
    )


def assert_ends_at_timeout(url, file, **options):
    started_at = time.monotonic()
    with pytest.raises(AudioTransferError, match=r"task task-1 was not stored within 0\.3 seconds"):
        store(url, file, **options)
    assert time.monotonic() - started_at < MAX_SECONDS
    assert file.read_bytes() == b"an older good object"
    assert [path.name for path in file.parent.iterdir()] == ["clip.wav"]


STALLS = {
    "head": HANG,
    "body": make_audio_reply(AUDIO, drip=20),
    "body without a length": Reply(AUDIO, headers={"Content-Length": "", "x-cos-hash-crc64ecma": "1"}, drip=20),
    "chunk": Reply(b"9c4\r\n" + AUDIO, headers=CHUNKED, drip=20),
    "trickling chunk size": Reply(b"0" * 1_500, headers=CHUNKED, drip=0.02),
    "trickling body": make_audio_reply(AUDIO, drip=0.02),
}


@pytest.mark.parametrize("reply", STALLS.values(), ids=STALLS)
def test_transfer_timeout_ends_stalled_download(file, reply):
    with ScriptedServer(reply) as server:
        assert_ends_at_timeout(f"{server.url}/clip.wav", file)


def test_transfer_timeout_ends_stalled_tls_download(file, tmp_path_factory, monkeypatch):
    certificate = make_self_signed_certificate(tmp_path_factory.mktemp("tls"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with ScriptedServer(make_audio_reply(AUDIO, drip=20), tls=certificate) as server:
        assert_ends_at_timeout(f"https://localhost:{server.port}/clip.wav", file)


def test_transfer_timeout_ends_backoff(file, monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.storage.download.random.uniform", lambda *_: 20.0)
    with ScriptedServer(Reply(b"busy", 503)) as server:
        assert_ends_at_timeout(f"{server.url}/clip.wav", file)


def test_transfer_timeout_ends_url_refresh(file):
    hanging = threading.Event()
    with ScriptedServer(Reply(b"expired", 403)) as server:
        assert_ends_at_timeout(f"{server.url}/clip.wav", file, get_fresh_url=lambda: hanging.wait(20))
    hanging.set()


def test_transfer_timeout_ends_dns_lookup(file, monkeypatch):
    hanging = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: hanging.wait(20))
    assert_ends_at_timeout("http://audio.example/clip.wav", file)
    hanging.set()


def test_transfer_timeout_ends_redirect_to_hanging_server(file):
    with (
        ScriptedServer(HANG) as hanging,
        ScriptedServer(Reply(b"", 302, {"Location": f"{hanging.url}/clip.wav"})) as server,
    ):
        assert_ends_at_timeout(f"{server.url}/clip.wav", file)


def test_cancelled_deadline_ends_backoff(file, monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.storage.download.random.uniform", lambda *_: 20.0)
    cancelled = threading.Event()

    def cancel_and_fail(_):
        threading.Timer(0.1, cancelled.set).start()
        return Reply(b"busy", 503)

    started_at = time.monotonic()
    with ScriptedServer(cancel_and_fail) as server, pytest.raises(AudioTransferStopped):
        store(f"{server.url}/clip.wav", file, deadline=Deadline(60, "task task-1", cancelled))
    assert time.monotonic() - started_at < MAX_SECONDS


def test_read_breaks_at_deadline():
    deadline = Deadline(0.2, "task task-1")
    with (
        ScriptedServer(make_audio_reply(AUDIO, drip=20)) as server,
        open_url(server.url, {}, deadline.check) as response,
        pytest.raises(AudioTransferError, match=r"within 0\.2 seconds"),
    ):
        list(response.read_blocks())
