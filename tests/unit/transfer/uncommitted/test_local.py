import errno
import os
import threading
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.conditional_write import ConditionFailedError
from airflow_provider_mps.errors import DestinationError
from airflow_provider_mps.store_errors import explaining
from airflow_provider_mps.transfer.uncommitted import open_uncommitted
from airflow_provider_mps.transfer.uncommitted.told import Told


def open_file(path, **options):
    return open_uncommitted(ObjectStoragePath(f"file://{path}"), **options)


def explaining_of(path):
    return explaining(ObjectStoragePath(f"file://{path}"), "task-1")


def test_nothing_is_seen_in_the_folder_before_the_commit(tmp_path):
    file = open_file(tmp_path / "a.wav")
    file.write(b"audio")
    assert list(tmp_path.iterdir()) == []
    file.commit()
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == b"audio"


def test_a_commit_replaces_what_was_there_and_tells_its_size(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"first, and longer")
    file = open_file(tmp_path / "a.wav")
    file.write(b"second")
    assert file.commit() == Told(size=6)
    assert (tmp_path / "a.wav").read_bytes() == b"second"


def test_what_was_there_stays_after_a_discard_however_often(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"good")
    file = open_file(tmp_path / "a.wav")
    file.write(b"bad")
    file.discard()
    file.discard()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"good"]


def test_a_commit_that_was_given_up_while_the_disk_took_its_time_shows_nothing_and_no_other_file(tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(b"good")
    syncing, synced = threading.Event(), threading.Event()
    fsync = os.fsync

    def slow(descriptor):
        syncing.set()
        synced.wait(60)
        fsync(descriptor)

    given_up = open_file(tmp_path / "a.wav")
    given_up.write(b"1234")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", slow)
        raised = []

        def commit():
            with pytest.raises(OSError, match="given up") as caught:
                given_up.commit()
            raised.append(caught.value)

        committing = threading.Thread(target=commit)
        committing.start()
        assert syncing.wait(60)
        given_up.discard()
        other = open_file(tmp_path / "b.wav")
        other.write(b"5678")
        other._file.flush()
        synced.set()
        committing.join(60)
    assert raised
    given_up.discard()
    other.commit()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.wav": b"good", "b.wav": b"5678"}


def test_a_discard_does_not_wait_for_a_write_that_hangs(tmp_path):
    file = open_file(tmp_path / "a.wav")
    with file._in_use:  # as a write has it
        file.discard()
    file.discard()
    assert file._file.closed


@pytest.fixture(params=["nameless", "named"])
def kind_of_disk(request, monkeypatch):
    """A disk that can keep a file without a name, and one that cannot."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE")


@pytest.mark.usefixtures("kind_of_disk")
class TestOnEveryDisk:
    def test_a_new_file_has_the_permissions_of_any_new_file(self, tmp_path):
        mask = os.umask(0o027)
        try:
            file = open_file(tmp_path / "a.wav")
            file.commit()
        finally:
            os.umask(mask)
        assert (tmp_path / "a.wav").stat().st_mode & 0o777 == 0o640

    def test_a_file_that_is_replaced_keeps_its_permissions_and_a_link_stays_a_link(self, tmp_path):
        (tmp_path / "target.wav").write_bytes(b"old")
        (tmp_path / "target.wav").chmod(0o600)
        (tmp_path / "link.wav").symlink_to("target.wav")
        file = open_file(tmp_path / "link.wav")
        file.write(b"new")
        file.commit()
        assert (tmp_path / "link.wav").is_symlink()
        assert (tmp_path / "target.wav").read_bytes() == b"new"
        assert (tmp_path / "target.wav").stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("name", ["a" * 251 + ".wav", "音" * 82 + ".wav"])
    def test_a_name_as_long_as_the_filesystem_allows_can_be_stored(self, tmp_path, name):
        file = open_uncommitted(ObjectStoragePath(f"file://{tmp_path}") / name)
        file.write(b"audio")
        file.commit()
        assert [path.name for path in tmp_path.iterdir()] == [name]

    def test_a_disk_that_fills_up_leaves_nothing_behind(self, tmp_path):
        file = open_file(tmp_path / "a.wav")
        file.write(b"audio")
        with Path("/dev/full").open("wb") as full:  # what is in the buffer cannot be written there
            os.dup2(full.fileno(), file._file.fileno())
            with pytest.raises(OSError, match="No space"):
                file.commit()
            file.discard()
        assert list(tmp_path.iterdir()) == []

    def test_created_file_has_its_content(self, tmp_path):
        file = open_file(tmp_path / "a.wav", create_only=True)
        file.write(b"audio")
        assert file.commit() == Told(size=5)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.wav": b"audio"}
        assert (tmp_path / "a.wav").stat().st_nlink == 1

    def test_file_that_appears_before_the_commit_is_kept(self, tmp_path):
        file = open_file(tmp_path / "a.wav", create_only=True)
        file.write(b"audio")
        (tmp_path / "a.wav").write_bytes(b"of another writer")
        with pytest.raises(ConditionFailedError):
            file.commit()
        file.discard()
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.wav": b"of another writer"}

    @pytest.mark.parametrize("exists", [False, True])
    def test_disk_without_hard_links_is_looked_at(self, tmp_path, monkeypatch, exists):
        def refuse(source, target, **options):
            if Path(target).name == "a.wav":
                raise OSError(errno.EPERM, "Operation not permitted")
            link(source, target, **options)

        link = os.link
        monkeypatch.setattr(os, "link", refuse)
        file = open_file(tmp_path / "a.wav", create_only=True)
        file.write(b"audio")
        if exists:
            (tmp_path / "a.wav").write_bytes(b"of another writer")
            with pytest.raises(ConditionFailedError):
                file.commit()
            file.discard()
        else:
            file.commit()
        content = b"of another writer" if exists else b"audio"
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.wav": content}

    def test_missing_folders_are_made(self, tmp_path):
        file = open_file(tmp_path / "new" / "folder" / "a.wav")
        file.write(b"audio")
        file.commit()
        assert (tmp_path / "new" / "folder" / "a.wav").read_bytes() == b"audio"

    def test_a_disk_that_has_less_than_was_written_shows_nothing(self, tmp_path):
        file = open_file(tmp_path / "a.wav")
        file.write(b"audio")
        file._file.flush()
        os.ftruncate(file._file.fileno(), 3)
        with pytest.raises(OSError, match="3 of 5 bytes"):
            file.commit()
        file.discard()
        assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_the_folder_is_an_error_that_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "a.wav"
    with pytest.raises(DestinationError, match=r"task-1 was not stored.*is a file"), explaining_of(path):
        open_file(path)


def test_a_folder_in_the_way_of_the_file_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(DestinationError, match="End the destination with '/'"), explaining_of(tmp_path):
        open_file(tmp_path)


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DestinationError, match="no regular file"), explaining_of(tmp_path / "pipe"):
        open_file(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()
