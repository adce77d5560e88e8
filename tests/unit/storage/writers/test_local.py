import errno
import os
import threading
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.exceptions import DestinationError
from airflow_provider_mps.storage.conditional_write import ConditionFailedError
from airflow_provider_mps.storage.errors import translate_storage_errors
from airflow_provider_mps.storage.writers import open_writer
from airflow_provider_mps.storage.writers.base import WriteReceipt


def open_local_writer(path, **options):
    return open_writer(ObjectStoragePath(f"file://{path}"), **options)


def translate_errors_of(path):
    return translate_storage_errors(ObjectStoragePath(f"file://{path}"), "task-1")


def test_folder_before_commit_is_empty(tmp_path):
    file = open_local_writer(tmp_path / "a.wav")
    file.write(b"audio")
    assert list(tmp_path.iterdir()) == []
    file.commit()
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == b"audio"


def test_commit_replaces_file_and_returns_size(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"first, and longer")
    file = open_local_writer(tmp_path / "a.wav")
    file.write(b"second")
    assert file.commit() == WriteReceipt(size=6)
    assert (tmp_path / "a.wav").read_bytes() == b"second"


def test_repeated_discard_keeps_older_file(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"good")
    file = open_local_writer(tmp_path / "a.wav")
    file.write(b"bad")
    file.discard()
    file.discard()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"good"]


def test_commit_discarded_during_sync_publishes_nothing(tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(b"good")
    syncing, synced = threading.Event(), threading.Event()
    fsync = os.fsync

    def fsync_slowly(descriptor):
        syncing.set()
        synced.wait(60)
        fsync(descriptor)

    discarded = open_local_writer(tmp_path / "a.wav")
    discarded.write(b"1234")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync_slowly)
        raised = []

        def commit():
            with pytest.raises(OSError, match="discarded during its commit") as caught:
                discarded.commit()
            raised.append(caught.value)

        committing = threading.Thread(target=commit)
        committing.start()
        assert syncing.wait(60)
        discarded.discard()
        other = open_local_writer(tmp_path / "b.wav")
        other.write(b"5678")
        other._file.flush()
        synced.set()
        committing.join(60)
    assert raised
    discarded.discard()
    other.commit()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.wav": b"good", "b.wav": b"5678"}


def test_discard_does_not_wait_for_hanging_write(tmp_path):
    file = open_local_writer(tmp_path / "a.wav")
    with file._lock:  # held during a write
        file.discard()
    file.discard()
    assert file._file.closed


@pytest.fixture(params=["unnamed", "named"])
def temporary_file_kind(request, monkeypatch):
    """Run with a disk that supports files without a name, and with one that does not."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE")


@pytest.mark.usefixtures("temporary_file_kind")
class TestTemporaryFileKinds:
    def test_new_file_respects_umask(self, tmp_path):
        mask = os.umask(0o027)
        try:
            file = open_local_writer(tmp_path / "a.wav")
            file.commit()
        finally:
            os.umask(mask)
        assert (tmp_path / "a.wav").stat().st_mode & 0o777 == 0o640

    def test_replaced_file_keeps_permissions_and_symlink(self, tmp_path):
        (tmp_path / "target.wav").write_bytes(b"old")
        (tmp_path / "target.wav").chmod(0o600)
        (tmp_path / "link.wav").symlink_to("target.wav")
        file = open_local_writer(tmp_path / "link.wav")
        file.write(b"new")
        file.commit()
        assert (tmp_path / "link.wav").is_symlink()
        assert (tmp_path / "target.wav").read_bytes() == b"new"
        assert (tmp_path / "target.wav").stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("name", ["a" * 251 + ".wav", "音" * 82 + ".wav"])
    def test_longest_file_name_can_be_written(self, tmp_path, name):
        file = open_writer(ObjectStoragePath(f"file://{tmp_path}") / name)
        file.write(b"audio")
        file.commit()
        assert [path.name for path in tmp_path.iterdir()] == [name]

    def test_full_disk_leaves_nothing_behind(self, tmp_path):
        file = open_local_writer(tmp_path / "a.wav")
        file.write(b"audio")
        with Path("/dev/full").open("wb") as full:  # the buffer cannot be written there
            os.dup2(full.fileno(), file._file.fileno())
            with pytest.raises(OSError, match="No space"):
                file.commit()
            file.discard()
        assert list(tmp_path.iterdir()) == []

    def test_create_only_writes_content(self, tmp_path):
        file = open_local_writer(tmp_path / "a.wav", create_only=True)
        file.write(b"audio")
        assert file.commit() == WriteReceipt(size=5)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.wav": b"audio"}
        assert (tmp_path / "a.wav").stat().st_nlink == 1

    def test_create_only_keeps_file_created_before_commit(self, tmp_path):
        file = open_local_writer(tmp_path / "a.wav", create_only=True)
        file.write(b"audio")
        (tmp_path / "a.wav").write_bytes(b"from another writer")
        with pytest.raises(ConditionFailedError):
            file.commit()
        file.discard()
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.wav": b"from another writer"}

    @pytest.mark.parametrize("exists", [False, True])
    def test_create_only_without_hard_links_checks_existence(self, tmp_path, monkeypatch, exists):
        def deny_link(source, target, **options):
            if Path(target).name == "a.wav":
                raise OSError(errno.EPERM, "Operation not permitted")
            link(source, target, **options)

        link = os.link
        monkeypatch.setattr(os, "link", deny_link)
        file = open_local_writer(tmp_path / "a.wav", create_only=True)
        file.write(b"audio")
        if exists:
            (tmp_path / "a.wav").write_bytes(b"from another writer")
            with pytest.raises(ConditionFailedError):
                file.commit()
            file.discard()
        else:
            file.commit()
        content = b"from another writer" if exists else b"audio"
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.wav": content}

    def test_missing_folders_are_created(self, tmp_path):
        file = open_local_writer(tmp_path / "new" / "folder" / "a.wav")
        file.write(b"audio")
        file.commit()
        assert (tmp_path / "new" / "folder" / "a.wav").read_bytes() == b"audio"

    def test_truncated_file_is_not_published(self, tmp_path):
        file = open_local_writer(tmp_path / "a.wav")
        file.write(b"audio")
        file._file.flush()
        os.ftruncate(file._file.fileno(), 3)
        with pytest.raises(OSError, match="3 of 5 bytes"):
            file.commit()
        file.discard()
        assert list(tmp_path.iterdir()) == []


def test_file_as_parent_folder_raises_destination_error(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "a.wav"
    with pytest.raises(DestinationError, match=r"task-1 was not stored.*is a file"), translate_errors_of(path):
        open_local_writer(path)


def test_folder_as_destination_raises_error_with_advice(tmp_path):
    with pytest.raises(DestinationError, match="End the destination with '/'"), translate_errors_of(tmp_path):
        open_local_writer(tmp_path)


def test_fifo_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DestinationError, match="no regular file"), translate_errors_of(tmp_path / "pipe"):
        open_local_writer(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()
