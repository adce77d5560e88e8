"""Whatever a transfer waits for, it ends when its time is up; each of these would take 20 seconds or longer."""

import logging
import threading
import time

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from tenacity import wait_fixed

from airflow_provider_mps.audio import store_audio
from airflow_provider_mps.errors import AudioTransferError, AudioTransferStopped
from airflow_provider_mps.transfer.link import PassingLinkError, make_session, open_link
from tests.certificates import self_signed
from tests.scripted_server import HANG, Reply, ScriptedServer, audio_reply

AUDIO = bytes(range(250)) * 10
CHUNKED = {"Content-Length": "", "Transfer-Encoding": "chunked"}
LONGEST_SECONDS = 15
"""Far more than any of these takes, and less than what it must not wait for."""


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "clip.wav"
    file.write_bytes(b"older and good")
    return file


def store(url, file, **options):
    return store_audio(
        url,
        ObjectStoragePath(f"file://{file}"),
        subject="task task-1",
        log=logging.getLogger("test"),
        **{"fresh_url": lambda: url, "timeout": 0.3, **options},
    )


def assert_ends_in_time(url, file, **options):
    began = time.monotonic()
    with pytest.raises(AudioTransferError, match=r"task task-1 was not stored within 0\.3 seconds"):
        store(url, file, **options)
    assert time.monotonic() - began < LONGEST_SECONDS
    assert file.read_bytes() == b"older and good"
    assert [path.name for path in file.parent.iterdir()] == ["clip.wav"]


STALLS = {
    "head": HANG,
    "body": audio_reply(AUDIO, drip=20),
    "body without a length": Reply(AUDIO, headers={"Content-Length": "", "x-cos-hash-crc64ecma": "1"}, drip=20),
    "chunk": Reply(b"9c4\r\n" + AUDIO, headers=CHUNKED, drip=20),
    "trickling size of a chunk": Reply(b"0" * 1_500, headers=CHUNKED, drip=0.02),
    "trickling body": audio_reply(AUDIO, drip=0.02),
}


@pytest.mark.parametrize("reply", STALLS.values(), ids=STALLS)
def test_transfer_timeout_bounds_a_download_that_stalls(file, reply):
    with ScriptedServer(reply) as server:
        assert_ends_in_time(f"{server.url}/clip.wav", file)


def test_transfer_timeout_bounds_a_stall_over_tls(file, tmp_path_factory, monkeypatch):
    certificate = self_signed(tmp_path_factory.mktemp("tls"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with ScriptedServer(audio_reply(AUDIO, drip=20), tls=certificate) as server:
        assert_ends_in_time(f"https://localhost:{server.port}/clip.wav", file)


def test_transfer_timeout_bounds_the_wait_before_a_retry(file, monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.transfer.fetch.wait_random_exponential", lambda **_: wait_fixed(20))
    with ScriptedServer(Reply(b"busy", 503)) as server:
        assert_ends_in_time(f"{server.url}/clip.wav", file)


def test_transfer_timeout_bounds_the_query_for_a_fresh_url(file):
    hanging = threading.Event()
    with ScriptedServer(Reply(b"expired", 403)) as server:
        assert_ends_in_time(f"{server.url}/clip.wav", file, fresh_url=lambda: hanging.wait(20))
    hanging.set()


def test_transfer_timeout_bounds_the_look_up_of_a_host(file, monkeypatch):
    hanging = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: hanging.wait(20))
    assert_ends_in_time("http://audio.example/clip.wav", file)
    hanging.set()


def test_transfer_timeout_bounds_a_redirect_to_a_server_that_hangs(file):
    with (
        ScriptedServer(HANG) as silent,
        ScriptedServer(Reply(b"", 302, {"Location": f"{silent.url}/clip.wav"})) as server,
    ):
        assert_ends_in_time(f"{server.url}/clip.wav", file)


def test_stop_ends_the_wait_before_a_retry(file, monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.transfer.fetch.wait_random_exponential", lambda **_: wait_fixed(20))
    stop = threading.Event()

    def stop_and_fail(_):
        threading.Timer(0.1, stop.set).start()
        return Reply(b"busy", 503)

    began = time.monotonic()
    with ScriptedServer(stop_and_fail) as server, pytest.raises(AudioTransferStopped):
        store(f"{server.url}/clip.wav", file, timeout=60, stop=stop)
    assert time.monotonic() - began < LONGEST_SECONDS


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "mps-transfer-timeout"]


@pytest.mark.parametrize(
    ("reply", "seconds", "limited"),
    [
        (audio_reply(AUDIO), 3600, False),
        (audio_reply(AUDIO), 5, True),
        (Reply(b"2\r\nab\r\n0\r\n\r\n", headers=CHUNKED), 3600, True),
    ],
    ids=["much time left", "little time left", "in chunks"],
)
def test_reading_is_limited_by_a_thread_only_where_it_could_last_too_long(reply, seconds, limited):
    with ScriptedServer(reply) as server, make_session() as session:
        with open_link(session, server.url, {}, lambda: None, lambda: seconds) as answer:
            blocks = answer.blocks()
            next(blocks, None)
            assert bool(threads()) is limited
            started = threads()
        for thread in started:
            thread.join(10)
            assert not thread.is_alive()


def test_read_of_a_link_breaks_off_when_the_time_is_up():
    with (
        ScriptedServer(audio_reply(AUDIO, drip=20)) as server,
        make_session() as session,
        open_link(session, server.url, {}, lambda: None, lambda: 0.2) as answer,
        pytest.raises(PassingLinkError),
    ):
        list(answer.blocks())
