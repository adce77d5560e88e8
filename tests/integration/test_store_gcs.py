"""Storing to a server that speaks Google's API, through gcsfs's own uncommitted file."""

import os

import gcsfs
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from gcsfs.retry import ChecksumError

from airflow_provider_mps.conditional_write import ConditionFailedError
from airflow_provider_mps.store_errors import UnknownOutcomeError
from airflow_provider_mps.transfer.parts import PART_SIZE
from airflow_provider_mps.transfer.uncommitted.held_back import HeldBackFile
from airflow_provider_mps.transfer.uncommitted.told import Told

OPTIONS = {"content_type": "audio/wav", "consistency": "md5"}
LONG = os.urandom(20 * 1024 * 1024 + 5)


@pytest.fixture
def fs(free_tcp_port):
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", free_tcp_port, in_memory=True, default_bucket="clips")
    server.start()
    url = f"http://127.0.0.1:{free_tcp_port}"
    try:
        yield gcsfs.GCSFileSystem(token="anon", endpoint_url=url, project="test", skip_instance_cache=True)
    finally:
        server.stop()


def write(fs, content, **options):
    file = HeldBackFile(fs, "clips/a.wav", OPTIONS, **options)
    size = file.block_size(0)
    for first in range(0, len(content), size):
        file.write(bytearray(content[first : first + size]))
    return file


@pytest.mark.parametrize(
    "content", [b"short", LONG, LONG[: 2 * PART_SIZE]], ids=["one request", "several blocks", "whole blocks"]
)
def test_what_is_written_is_not_seen_before_the_commit_and_whole_after_it(fs, content):
    file = write(fs, content)
    assert not fs.exists("clips/a.wav")
    file.commit()
    fs.invalidate_cache()
    assert fs.cat("clips/a.wav") == content
    assert fs.info("clips/a.wav")["contentType"] == "audio/wav"


@pytest.mark.parametrize("size", [5, PART_SIZE, 2 * PART_SIZE, 2 * PART_SIZE + 5])
def test_the_md5_that_the_store_tells_is_compared_whatever_the_size(fs, monkeypatch, size):
    wrong = []
    monkeypatch.setattr("gcsfs.checkers.MD5Checker.validate_json_response", lambda *_: wrong.append(1) or 1 / 0)
    with pytest.raises(UnknownOutcomeError, match="ZeroDivisionError"):
        write(fs, LONG[:size]).commit()
    assert wrong


@pytest.mark.parametrize("content", [b"short", LONG], ids=["one request", "several blocks"])
def test_an_object_whose_md5_is_another_one_is_told_as_damaged(fs, monkeypatch, content):
    def validate(*_):
        raise ChecksumError("MD5 checksum failed")

    monkeypatch.setattr("gcsfs.checkers.MD5Checker.validate_json_response", validate)
    assert "MD5" in write(fs, content).commit().defect(len(content), 0)


def test_nobody_elses_transaction_commits_it(fs):
    with fs.transaction:
        write(fs, LONG)
    fs.invalidate_cache()
    assert not fs.exists("clips/a.wav")


@pytest.mark.parametrize(("content", "cancelled"), [(b"short", 0), (LONG, 1)], ids=["one request", "several blocks"])
def test_what_was_there_stays_when_it_is_discarded(fs, monkeypatch, content, cancelled):
    fs.pipe_file("clips/a.wav", b"older and good")
    file = write(fs, content)
    asked = []
    # The emulator cannot cancel an upload; Google can.
    monkeypatch.setattr(fs, "call", lambda method, _: asked.append(method))
    file.discard()
    monkeypatch.undo()
    assert asked == ["DELETE"] * cancelled
    fs.invalidate_cache()
    assert fs.cat("clips/a.wav") == b"older and good"


def test_a_gs_path_is_written_in_this_way(monkeypatch, fs):
    monkeypatch.setattr("airflow_provider_mps.transfer.uncommitted.filesystem_of", lambda _: fs)
    from airflow_provider_mps.transfer.uncommitted import open_uncommitted

    assert isinstance(open_uncommitted(ObjectStoragePath("gs://clips/a.wav")), HeldBackFile)


@pytest.fixture
def conditions(fs, monkeypatch):
    """The ``ifGenerationMatch`` of each upload that begins."""
    sent, request = [], gcsfs.GCSFileSystem._call

    async def listen(fs, method, path, *args, **options):
        if "uploadType" in options:
            sent.append(options.get("ifGenerationMatch"))
        return await request(fs, method, path, *args, **options)

    monkeypatch.setattr(gcsfs.GCSFileSystem, "_call", listen)
    return sent


@pytest.mark.parametrize("content", [b"short", LONG], ids=["one request", "several blocks"])
def test_an_object_that_is_only_created_has_generation_0_as_its_condition(fs, conditions, content):
    assert write(fs, content, create_only=True).commit() == Told(md5=True)
    write(fs, content).commit()
    assert conditions == ["0", None]
    fs.invalidate_cache()
    assert fs.cat("clips/a.wav") == content


@pytest.mark.parametrize("content", [b"short", LONG], ids=["one request", "several blocks"])
@pytest.mark.parametrize("is_own", [False, True])
def test_an_object_that_exists_at_the_commit_is_kept_unless_it_is_this_upload(fs, monkeypatch, content, is_own):
    file = write(fs, content, create_only=True)
    finish = file._finish

    def answer_412(last):
        """As Google does where another has created it, or where gcsfs repeats what was done."""
        if is_own:
            finish(last)
        else:
            fs.pipe_file("clips/a.wav", b"of another writer")
        raise FileExistsError("clips/a.wav")

    monkeypatch.setattr(file, "_finish", answer_412)
    if is_own:
        assert file.commit() == Told(size=len(content))
    else:
        with pytest.raises(ConditionFailedError):
            file.commit()
    fs.invalidate_cache()
    assert fs.cat("clips/a.wav") == (content if is_own else b"of another writer")


def test_an_object_that_exists_when_the_upload_begins_is_kept(fs, monkeypatch):
    async def answer_412(*_, **options):
        raise FileExistsError("clips/a.wav")

    monkeypatch.setattr(fs, "_call", answer_412)
    with pytest.raises(ConditionFailedError):
        write(fs, LONG, create_only=True)
