import logging
import os
import threading

import fsspec
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from fastcrc import crc64

from airflow_provider_mps.audio import StoredAudio, store_audio
from airflow_provider_mps.choice import IfExists
from airflow_provider_mps.errors import AudioTransferError, DestinationError
from airflow_provider_mps.transfer.download import Source
from airflow_provider_mps.transfer.existing import READ_SIZE, ExistingFile
from tests.scripted_server import Reply, ScriptedServer, audio_reply

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
        fresh_url=lambda: f"{server.url}/clip.wav",
        subject="task task-1",
        log=logging.getLogger("test"),
        if_exists=IfExists.SKIP,
        **options,
    )


def whole(request):
    return audio_reply(AUDIO, request)


def without_crc(request):
    reply = audio_reply(AUDIO, request)
    reply.headers["x-cos-hash-crc64ecma"] = ""
    return reply


def without_length(_):
    return Reply(
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(AUDIO), AUDIO),
        headers={
            "Content-Length": "",
            "Transfer-Encoding": "chunked",
            "x-cos-hash-crc64ecma": str(crc64.xz(AUDIO)),
        },
    )


@pytest.mark.parametrize("reply", [whole, without_length], ids=["length and CRC-64", "CRC-64 only"])
def test_skip_leaves_the_same_audio_alone_and_returns_its_crc64(file, reply):
    file.write_bytes(AUDIO)
    before = file.stat()
    with ScriptedServer(reply) as server:
        assert store(server, file) == StoredAudio(len(AUDIO), crc64.xz(AUDIO))
        assert len(server.requests) == 1
    assert file.stat() == before


@pytest.mark.parametrize("reply", [whole, without_length], ids=["length and CRC-64", "CRC-64 only"])
@pytest.mark.parametrize("there", [SAME_SIZE, b"short", b""], ids=["same size", "another size", "empty"])
def test_skip_replaces_other_audio_also_of_the_same_size(file, there, reply):
    file.write_bytes(there)
    with ScriptedServer(reply) as server:
        assert store(server, file) == StoredAudio(len(AUDIO), crc64.xz(AUDIO))
    assert file.read_bytes() == AUDIO


def test_skip_reads_the_existing_file_once_when_the_download_breaks(file, monkeypatch):
    file.write_bytes(SAME_SIZE)
    reads, read = [], ExistingFile._read_crc64
    monkeypatch.setattr(ExistingFile, "_read_crc64", lambda existing: reads.append(1) or read(existing))
    broken = Reply(AUDIO, 200, audio_reply(AUDIO).headers | {"ETag": ""}, cut_at=1000)
    with ScriptedServer(broken, whole) as server:
        store(server, file)
    assert file.read_bytes() == AUDIO
    assert len(reads) == 1


def test_skip_without_crc64_compares_the_size_and_logs_so(file, caplog):
    file.write_bytes(SAME_SIZE)
    with ScriptedServer(without_crc) as server:
        assert store(server, file) == StoredAudio(len(AUDIO), None)
    assert file.read_bytes() == SAME_SIZE
    assert "Only the size was compared" in caplog.text


def test_skip_takes_no_empty_file_for_an_empty_audio(file):
    file.write_bytes(b"")
    with ScriptedServer(lambda _: audio_reply(b"")) as server, pytest.raises(AudioTransferError, match="task-1"):
        store(server, file)


def test_skip_reading_the_existing_file_ends_with_the_time_of_the_transfer(file, monkeypatch):
    file.write_bytes(AUDIO)
    hanging = threading.Event()
    monkeypatch.setattr(ExistingFile, "_read_crc64", lambda _: hanging.wait(30))
    with ScriptedServer(whole) as server, pytest.raises(AudioTransferError, match=r"not stored within 0\.5 seconds"):
        store(server, file, timeout=0.5)
    hanging.set()


class _NotWantedError(AudioTransferError):
    pass


def existing(file, still_wanted=lambda: None):
    return ExistingFile(ObjectStoragePath(f"file://{file}"), 5 * READ_SIZE, "task-1", still_wanted)


def test_existing_file_that_is_gone_is_not_the_audio(file):
    assert not existing(file).is_audio_of(Source(crc64=5))


def test_existing_file_is_read_in_blocks_while_it_is_wanted(file, monkeypatch):
    file.write_bytes(bytes(5 * READ_SIZE))
    checks = []

    def not_wanted_after_two_blocks():
        checks.append(1)
        if len(checks) > 2:
            raise _NotWantedError

    with pytest.raises(_NotWantedError):
        existing(file, not_wanted_after_two_blocks).is_audio_of(Source(crc64=5))
    assert len(checks) == 3


def test_existing_file_whose_reading_fails_is_an_error_that_may_pass(file, monkeypatch):
    def fail(*_, **__):
        raise OSError("input/output error")

    monkeypatch.setattr(fsspec.get_filesystem_class("file"), "open", fail)
    with pytest.raises(AudioTransferError, match=r"clip\.wav could not be read: OSError: input/output error"):
        existing(file).is_audio_of(Source(crc64=5))


def test_existing_file_that_may_not_be_read_is_an_error_about_the_permission(file, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("denied")

    monkeypatch.setattr(fsspec.get_filesystem_class("file"), "open", refuse)
    with pytest.raises(DestinationError, match="task-1 was not stored: there is no permission to read"):
        existing(file).is_audio_of(Source(crc64=5))
