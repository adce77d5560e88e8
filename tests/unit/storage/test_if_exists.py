import logging
import os
import threading

import fsspec
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from fastcrc import crc64

from airflow_provider_mps.exceptions import AudioTransferError, DestinationError
from airflow_provider_mps.storage.http_response import AudioMetadata
from airflow_provider_mps.storage.if_exists import READ_BYTES, ExistingFile, IfExists
from airflow_provider_mps.storage.transfer import StoredAudio, store_audio
from tests.scripted_server import Reply, ScriptedServer, make_audio_reply

AUDIO = os.urandom(300_000)
SAME_SIZE = os.urandom(len(AUDIO))

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "clip.wav"


def store(server, file, **options):
    return store_audio(
        f"{server.url}/clip.wav",
        ObjectStoragePath(f"file://{file}"),
        get_fresh_url=lambda: f"{server.url}/clip.wav",
        subject="task task-1",
        log=logging.getLogger("test"),
        if_exists=IfExists.SKIP,
        **options,
    )


def full_reply(request):
    return make_audio_reply(AUDIO, request)


def reply_without_crc64(request):
    reply = make_audio_reply(AUDIO, request)
    reply.headers["x-cos-hash-crc64ecma"] = ""
    return reply


def identify(file):
    """Return what changes if a file is replaced or written, unlike the time of the last access."""
    status = file.stat()
    return status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def reply_without_length(_):
    return Reply(
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(AUDIO), AUDIO),
        headers={
            "Content-Length": "",
            "Transfer-Encoding": "chunked",
            "x-cos-hash-crc64ecma": str(crc64.xz(AUDIO)),
        },
    )


@pytest.mark.parametrize("reply", [full_reply, reply_without_length], ids=["length and CRC-64", "CRC-64 only"])
def test_skip_same_audio_keeps_file_and_returns_crc64(file, reply):
    file.write_bytes(AUDIO)
    before = identify(file)
    with ScriptedServer(reply) as server:
        assert store(server, file) == StoredAudio(len(AUDIO), crc64.xz(AUDIO))
        assert len(server.requests) == 1
    assert identify(file) == before


@pytest.mark.parametrize("reply", [full_reply, reply_without_length], ids=["length and CRC-64", "CRC-64 only"])
@pytest.mark.parametrize("content", [SAME_SIZE, b"short", b""], ids=["same size", "other size", "empty"])
def test_skip_different_audio_replaces_file(file, content, reply):
    file.write_bytes(content)
    with ScriptedServer(reply) as server:
        assert store(server, file) == StoredAudio(len(AUDIO), crc64.xz(AUDIO))
    assert file.read_bytes() == AUDIO


def test_skip_with_broken_download_reads_existing_file_once(file, monkeypatch):
    file.write_bytes(SAME_SIZE)
    reads, read = [], ExistingFile._get_crc64
    monkeypatch.setattr(ExistingFile, "_get_crc64", lambda existing_file: reads.append(1) or read(existing_file))
    broken = Reply(AUDIO, 200, make_audio_reply(AUDIO).headers | {"ETag": ""}, cut_at=1000)
    with ScriptedServer(broken, full_reply) as server:
        store(server, file)
    assert file.read_bytes() == AUDIO
    assert len(reads) == 1


def test_skip_without_crc64_compares_size_and_warns(file, caplog):
    file.write_bytes(SAME_SIZE)
    with ScriptedServer(reply_without_crc64) as server:
        assert store(server, file) == StoredAudio(len(AUDIO), None)
    assert file.read_bytes() == SAME_SIZE
    assert "Only the size was compared" in caplog.text


def test_skip_empty_file_and_empty_audio_raises(file):
    file.write_bytes(b"")
    with ScriptedServer(lambda _: make_audio_reply(b"")) as server, pytest.raises(AudioTransferError, match="task-1"):
        store(server, file)


def test_skip_reading_existing_file_ends_at_transfer_timeout(file, monkeypatch):
    file.write_bytes(AUDIO)
    hanging = threading.Event()
    monkeypatch.setattr(ExistingFile, "_get_crc64", lambda _: hanging.wait(30))
    with (
        ScriptedServer(full_reply) as server,
        pytest.raises(AudioTransferError, match=r"not stored within 0\.5 seconds"),
    ):
        store(server, file, timeout=0.5)
    hanging.set()


class _CancelledError(AudioTransferError):
    pass


def make_existing_file(file, raise_if_cancelled=lambda: None):
    return ExistingFile(ObjectStoragePath(f"file://{file}"), 5 * READ_BYTES, "task-1", raise_if_cancelled)


def test_existing_file_missing_is_not_the_audio(file):
    assert not make_existing_file(file).is_audio_of(AudioMetadata(crc64=5))


def test_existing_file_read_stops_when_cancelled(file, monkeypatch):
    file.write_bytes(bytes(5 * READ_BYTES))
    checks = []

    def cancel_after_two_blocks():
        checks.append(1)
        if len(checks) > 2:
            raise _CancelledError

    with pytest.raises(_CancelledError):
        make_existing_file(file, cancel_after_two_blocks).is_audio_of(AudioMetadata(crc64=5))
    assert len(checks) == 3


def test_existing_file_read_failure_is_retryable(file, monkeypatch):
    def fail(*_, **__):
        raise OSError("input/output error")

    monkeypatch.setattr(fsspec.get_filesystem_class("file"), "open", fail)
    with pytest.raises(AudioTransferError, match=r"clip\.wav could not be read: OSError: input/output error"):
        make_existing_file(file).is_audio_of(AudioMetadata(crc64=5))


def test_existing_file_without_permission_raises(file, monkeypatch):
    def deny(*_, **__):
        raise PermissionError("denied")

    monkeypatch.setattr(fsspec.get_filesystem_class("file"), "open", deny)
    with pytest.raises(DestinationError, match="task-1 was not stored: there is no permission to read"):
        make_existing_file(file).is_audio_of(AudioMetadata(crc64=5))
