"""Storing through gcsfs to a server with Google's API."""

import os

import gcsfs
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from gcsfs.retry import ChecksumError

from airflow_provider_mps.storage.conditional_write import ConditionFailedError
from airflow_provider_mps.storage.errors import UnknownOutcomeError
from airflow_provider_mps.storage.writers.base import PART_SIZE_BYTES, WriteReceipt
from airflow_provider_mps.storage.writers.gcs import GcsWriter

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
    file = GcsWriter(fs, "clips/a.wav", content_type="audio/wav", **options)
    size = file.get_block_size(0)
    for first in range(0, len(content), size):
        file.write(bytearray(content[first : first + size]))
    return file


@pytest.mark.parametrize(
    "content", [b"short", LONG, LONG[: 2 * PART_SIZE_BYTES]], ids=["one request", "several blocks", "whole blocks"]
)
def test_gcs_object_appears_complete_at_commit(fs, content):
    file = write(fs, content)
    assert not fs.exists("clips/a.wav")
    file.commit()
    fs.invalidate_cache()
    assert fs.cat("clips/a.wav") == content
    assert fs.info("clips/a.wav")["contentType"] == "audio/wav"


@pytest.mark.parametrize("size", [5, PART_SIZE_BYTES, 2 * PART_SIZE_BYTES, 2 * PART_SIZE_BYTES + 5])
def test_gcs_md5_is_compared_for_every_size(fs, monkeypatch, size):
    wrong = []
    monkeypatch.setattr("gcsfs.checkers.MD5Checker.validate_json_response", lambda *_: wrong.append(1) or 1 / 0)
    with pytest.raises(UnknownOutcomeError, match="ZeroDivisionError"):
        write(fs, LONG[:size]).commit()
    assert wrong


@pytest.mark.parametrize("content", [b"short", LONG], ids=["one request", "several blocks"])
def test_gcs_object_with_other_md5_is_reported_as_damaged(fs, monkeypatch, content):
    def validate(*_):
        raise ChecksumError("MD5 checksum failed")

    monkeypatch.setattr("gcsfs.checkers.MD5Checker.validate_json_response", validate)
    assert "MD5" in write(fs, content).commit().find_defect(len(content), 0)


def test_gcs_file_is_not_committed_by_other_transaction(fs):
    with fs.transaction:
        write(fs, LONG)
    fs.invalidate_cache()
    assert not fs.exists("clips/a.wav")


@pytest.mark.parametrize(("content", "cancelled"), [(b"short", 0), (LONG, 1)], ids=["one request", "several blocks"])
def test_gcs_discard_keeps_older_object(fs, monkeypatch, content, cancelled):
    fs.pipe_file("clips/a.wav", b"older and good")
    file = write(fs, content)
    methods = []
    # The emulator does not support cancelling an upload.
    monkeypatch.setattr(fs, "call", lambda method, _: methods.append(method))
    file.discard()
    monkeypatch.undo()
    assert methods == ["DELETE"] * cancelled
    fs.invalidate_cache()
    assert fs.cat("clips/a.wav") == b"older and good"


def test_open_writer_for_gs_path_is_gcs_writer(monkeypatch, fs):
    monkeypatch.setattr("airflow_provider_mps.storage.writers.get_filesystem", lambda _: fs)
    from airflow_provider_mps.storage.writers import open_writer

    assert isinstance(open_writer(ObjectStoragePath("gs://clips/a.wav")), GcsWriter)


@pytest.fixture
def conditions(fs, monkeypatch):
    """Return the list of ``ifGenerationMatch`` of all uploads."""
    sent, request = [], gcsfs.GCSFileSystem._call

    async def record(fs, method, path, *args, **options):
        if "uploadType" in options:
            sent.append(options.get("ifGenerationMatch"))
        return await request(fs, method, path, *args, **options)

    monkeypatch.setattr(gcsfs.GCSFileSystem, "_call", record)
    return sent


@pytest.mark.parametrize("content", [b"short", LONG], ids=["one request", "several blocks"])
def test_gcs_create_only_requires_generation_0(fs, conditions, content):
    assert write(fs, content, create_only=True).commit() == WriteReceipt(md5=True)
    write(fs, content).commit()
    assert conditions == ["0", None]
    fs.invalidate_cache()
    assert fs.cat("clips/a.wav") == content


@pytest.mark.parametrize("content", [b"short", LONG], ids=["one request", "several blocks"])
@pytest.mark.parametrize("is_own", [False, True])
def test_gcs_existing_object_at_commit_is_kept_unless_own(fs, monkeypatch, content, is_own):
    file = write(fs, content, create_only=True)
    finish = file._finish

    def fail_with_412(last):
        """Respond as Google does if the object exists, also when gcsfs repeats a request."""
        if is_own:
            finish(last)
        else:
            fs.pipe_file("clips/a.wav", b"from another writer")
        raise FileExistsError("clips/a.wav")

    monkeypatch.setattr(file, "_finish", fail_with_412)
    if is_own:
        assert file.commit() == WriteReceipt(size=len(content))
    else:
        with pytest.raises(ConditionFailedError):
            file.commit()
    fs.invalidate_cache()
    assert fs.cat("clips/a.wav") == (content if is_own else b"from another writer")


def test_gcs_existing_object_at_upload_start_is_kept(fs, monkeypatch):
    async def fail_with_412(*_, **options):
        raise FileExistsError("clips/a.wav")

    monkeypatch.setattr(fs, "_call", fail_with_412)
    with pytest.raises(ConditionFailedError):
        write(fs, LONG, create_only=True)
