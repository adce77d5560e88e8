import logging
from types import SimpleNamespace
from typing import ClassVar

import fsspec
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_mps.exceptions import DestinationError
from airflow_provider_mps.storage.errors import UnknownOutcomeError, translate_storage_errors
from airflow_provider_mps.storage.objects import write_object
from airflow_provider_mps.storage.transfer import store_audio
from airflow_provider_mps.storage.writers import validate_protocol
from airflow_provider_mps.storage.writers.base import WriteReceipt
from airflow_provider_mps.storage.writers.spooled import SpooledWriter
from tests.scripted_server import ScriptedServer, make_audio_reply


@pytest.fixture
def fs(monkeypatch):
    """Return fsspec's memory filesystem, which ignores `autocommit=False`."""
    memory = fsspec.filesystem("memory")
    monkeypatch.setattr(memory, "store", {})
    memory.pipe("/folder/a.wav", b"older and good")
    return memory


def write(fs, content, protocol="memory"):
    file = SpooledWriter(fs, "/folder/a.wav", protocol)
    file.write(content)
    return file


@pytest.mark.parametrize("protocol", ["memory", "oss"], ids=["upload and rename", "upload"])
def test_file_before_commit_is_unchanged(fs, protocol):
    file = write(fs, b"audio", protocol)
    assert fs.cat("/folder/a.wav") == b"older and good"
    assert file.commit() == WriteReceipt(size=5)
    assert fs.cat("/folder/a.wav") == b"audio"
    assert fs.find("/") == ["/folder/a.wav"]


def test_repeated_discard_keeps_older_file(fs):
    file = write(fs, b"bad")
    file.discard()
    file.discard()
    assert fs.cat("/folder/a.wav") == b"older and good"


def test_failed_upload_keeps_older_file(fs, monkeypatch):
    def put_half(source, target):
        fs.pipe(target, b"ha")
        raise OSError("no space left")

    monkeypatch.setattr(fs, "put_file", put_half)
    with pytest.raises(OSError, match="no space"):
        write(fs, b"half").commit()
    assert fs.find("/") == ["/folder/a.wav"]
    assert fs.cat("/folder/a.wav") == b"older and good"


def test_lost_rename_response_is_unknown_outcome(fs, monkeypatch):
    move = fs.mv

    def move_and_fail(*paths):
        move(*paths)
        raise ConnectionResetError("gone")

    monkeypatch.setattr(fs, "mv", move_and_fail)
    with pytest.raises(UnknownOutcomeError, match="gone"):
        write(fs, b"audio").commit()
    assert fs.cat("/folder/a.wav") == b"audio"


def test_failed_size_query_is_unknown_outcome(fs, monkeypatch):
    file = write(fs, b"audio", "oss")

    def fail(_):
        raise OSError("gone for a moment")

    monkeypatch.setattr(fs, "info", fail)
    with pytest.raises(UnknownOutcomeError, match="it was uploaded, but its size"):
        file.commit()


def test_write_without_read_permission_succeeds(fs, monkeypatch):
    file = write(fs, b"audio", "oss")

    def deny(_):
        raise PermissionError("may not look")

    monkeypatch.setattr(fs, "info", deny)
    assert file.commit() == WriteReceipt()


class CopyingFileSystem(MemoryFileSystem):
    """A filesystem whose ``mv`` copies, as fsspec's default does, so that readers see incomplete files."""

    protocol = "copying"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]
    requests: ClassVar[list] = []

    def _open(self, *arguments, **options):
        self.requests.append(arguments)
        return super()._open(*arguments, **options)


@pytest.fixture
def copying():
    fsspec.register_implementation("copying", CopyingFileSystem, clobber=True)
    fs = CopyingFileSystem()
    attach("copying", fs=fs)
    return fs


@pytest.mark.filterwarnings("ignore:UPath 'copying'")
def test_copying_filesystem_is_rejected_before_download(copying):
    path = ObjectStoragePath("copying://clips/a.wav")
    with ScriptedServer(make_audio_reply(b"audio")) as server:
        with pytest.raises(DestinationError, match="task-1 was not stored: copying:// is not known to show files only"):
            store_audio(
                f"{server.url}/a.wav",
                path,
                get_fresh_url=lambda: "",
                subject="task-1",
                log=logging.getLogger("test"),
            )
        assert server.requests == []
    assert copying.requests == []


@pytest.mark.filterwarnings("ignore:UPath 'copying'")
def test_write_object_to_copying_filesystem_is_rejected(copying):
    with pytest.raises(DestinationError, match="copying:// is not known"):
        write_object(ObjectStoragePath("copying://clips/results.jsonl"), [b"row"])


@pytest.mark.parametrize(
    "protocol",
    ["file", "s3", "s3a", "cos", "gs", "gcs", "abfs", "abfss", "adl", "wasb", "oss", "sftp", "ssh", "hdfs", "memory"],
)
def test_validate_protocol_accepts_atomic_filesystems(protocol):
    validate_protocol(SimpleNamespace(protocol=protocol))


@pytest.mark.parametrize("protocol", ["smb", "webhdfs"])
def test_rename_without_replacement_raises_destination_error(fs, monkeypatch, protocol):
    def keep_existing_file(*_):
        if protocol == "smb":
            raise FileExistsError("/folder/a.wav")

    monkeypatch.setattr(fs, "mv", keep_existing_file)
    with (
        pytest.raises(DestinationError, match="it exists, and its filesystem does not replace files"),
        translate_storage_errors(ObjectStoragePath("memory://folder/a.wav")),
    ):
        write(fs, b"audio", protocol).commit()
    assert fs.cat("/folder/a.wav") == b"older and good"
    assert fs.find("/") == ["/folder/a.wav"]


def test_truncated_upload_is_not_published(fs, monkeypatch):
    monkeypatch.setattr(fs, "put_file", lambda source, target: fs.pipe(target, b"ha"))
    with pytest.raises(OSError, match="2 of 4 bytes"):
        write(fs, b"half").commit()
    assert fs.find("/") == ["/folder/a.wav"]
    assert fs.cat("/folder/a.wav") == b"older and good"
