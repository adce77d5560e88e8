import logging
from types import SimpleNamespace
from typing import ClassVar

import fsspec
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_mps.audio import store_audio
from airflow_provider_mps.batch.objects import write_object
from airflow_provider_mps.errors import DestinationError
from airflow_provider_mps.store_errors import UnknownOutcomeError, explaining
from airflow_provider_mps.transfer.uncommitted import validate_protocol
from airflow_provider_mps.transfer.uncommitted.spooled import SpooledFile
from airflow_provider_mps.transfer.uncommitted.told import Told
from tests.scripted_server import ScriptedServer, audio_reply


@pytest.fixture
def fs(monkeypatch):
    """fsspec's memory filesystem: it publishes at once what it is told to hold back."""
    memory = fsspec.filesystem("memory")
    monkeypatch.setattr(memory, "store", {})
    memory.pipe("/folder/a.wav", b"older and good")
    return memory


def write(fs, content, protocol="memory"):
    file = SpooledFile(fs, "/folder/a.wav", protocol)
    file.write(content)
    return file


@pytest.mark.parametrize("protocol", ["memory", "oss"], ids=["puts and renames", "puts whole"])
def test_what_is_written_is_not_seen_before_the_commit(fs, protocol):
    file = write(fs, b"audio", protocol)
    assert fs.cat("/folder/a.wav") == b"older and good"
    assert file.commit() == Told(size=5)
    assert fs.cat("/folder/a.wav") == b"audio"
    assert fs.find("/") == ["/folder/a.wav"]


def test_what_was_there_stays_after_a_discard_however_often(fs):
    file = write(fs, b"bad")
    file.discard()
    file.discard()
    assert fs.cat("/folder/a.wav") == b"older and good"


def test_a_store_that_fails_halfway_through_a_put_keeps_what_was_there(fs, monkeypatch):
    def put_half(source, target):
        fs.pipe(target, b"ha")
        raise OSError("no space left")

    monkeypatch.setattr(fs, "put_file", put_half)
    with pytest.raises(OSError, match="no space"):
        write(fs, b"half").commit()
    assert fs.find("/") == ["/folder/a.wav"]
    assert fs.cat("/folder/a.wav") == b"older and good"


def test_where_the_answer_to_a_rename_is_lost_nothing_is_claimed(fs, monkeypatch):
    move = fs.mv

    def move_and_stumble(*paths):
        move(*paths)
        raise ConnectionResetError("gone")

    monkeypatch.setattr(fs, "mv", move_and_stumble)
    with pytest.raises(UnknownOutcomeError, match="gone"):
        write(fs, b"audio").commit()
    assert fs.cat("/folder/a.wav") == b"audio"


def test_where_the_store_does_not_tell_of_what_was_put_nothing_is_claimed(fs, monkeypatch):
    file = write(fs, b"audio", "oss")

    def stumble(_):
        raise OSError("gone for a moment")

    monkeypatch.setattr(fs, "info", stumble)
    with pytest.raises(UnknownOutcomeError, match="it was put"):
        file.commit()


def test_who_may_not_look_may_store_all_the_same(fs, monkeypatch):
    file = write(fs, b"audio", "oss")

    def refuse(_):
        raise PermissionError("may not look")

    monkeypatch.setattr(fs, "info", refuse)
    assert file.commit() == Told()


class CopyingFileSystem(MemoryFileSystem):
    """What fsspec does for most: ``mv`` copies a file, which its readers can watch."""

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
def test_filesystem_whose_readers_see_parts_is_refused_before_anything_is_fetched(copying):
    path = ObjectStoragePath("copying://clips/a.wav")
    with ScriptedServer(audio_reply(b"audio")) as server:
        with pytest.raises(DestinationError, match="task-1 was not stored: copying:// is not known to show files only"):
            store_audio(
                f"{server.url}/a.wav",
                path,
                fresh_url=lambda: "",
                subject="task-1",
                log=logging.getLogger("test"),
            )
        assert server.requests == []
    assert copying.requests == []


@pytest.mark.filterwarnings("ignore:UPath 'copying'")
def test_results_of_a_batch_are_refused_there_too(copying):
    with pytest.raises(DestinationError, match="copying:// is not known"):
        write_object(ObjectStoragePath("copying://clips/results.jsonl"), [b"row"])


@pytest.mark.parametrize(
    "protocol",
    ["file", "s3", "s3a", "cos", "gs", "gcs", "abfs", "abfss", "adl", "wasb", "oss", "sftp", "ssh", "hdfs", "memory"],
)
def test_protocols_that_show_whole_files_are_supported(protocol):
    validate_protocol(SimpleNamespace(protocol=protocol))


@pytest.mark.parametrize("protocol", ["smb", "webhdfs"])
def test_file_that_a_rename_does_not_replace_stays_and_the_error_says_so(fs, monkeypatch, protocol):
    def keep_what_is_there(*_):
        if protocol == "smb":
            raise FileExistsError("/folder/a.wav")

    monkeypatch.setattr(fs, "mv", keep_what_is_there)
    with (
        pytest.raises(DestinationError, match="it exists, and its filesystem does not replace files"),
        explaining(ObjectStoragePath("memory://folder/a.wav")),
    ):
        write(fs, b"audio", protocol).commit()
    assert fs.cat("/folder/a.wav") == b"older and good"
    assert fs.find("/") == ["/folder/a.wav"]


def test_a_store_that_keeps_less_than_it_was_given_does_not_get_to_show_it(fs, monkeypatch):
    monkeypatch.setattr(fs, "put_file", lambda source, target: fs.pipe(target, b"ha"))
    with pytest.raises(OSError, match="2 of 4 bytes"):
        write(fs, b"half").commit()
    assert fs.find("/") == ["/folder/a.wav"]
    assert fs.cat("/folder/a.wav") == b"older and good"
