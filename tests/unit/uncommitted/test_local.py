import os
from pathlib import Path

import fsspec
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps import uncommitted
from airflow_provider_mps.errors import DestinationError
from airflow_provider_mps.uncommitted import open_uncommitted


@pytest.fixture(params=["file", "memory"])
def place(request, tmp_path, monkeypatch):
    """A path on each kind of filesystem, and a function that reads what others see there."""
    if request.param == "file":
        file = tmp_path / "a.wav"
        return ObjectStoragePath(f"file://{file}"), lambda: file.read_bytes() if file.exists() else None
    # Airflow registers no memory filesystem; it stands for all that publish what they are told to hold back.
    fs = fsspec.filesystem("memory")
    monkeypatch.setattr(fs, "store", {})
    monkeypatch.setattr(uncommitted, "filesystem_of", lambda _: fs)
    path = ObjectStoragePath("memory://folder/a.wav")
    return path, lambda: fs.cat(path.path) if fs.exists(path.path) else None


def test_what_is_written_is_not_seen_before_the_commit(place):
    path, seen = place
    file = open_uncommitted(path)
    file.write(b"audio")
    assert seen() is None
    file.commit()
    assert seen() == b"audio"


def test_what_was_there_stays_after_a_discard(place):
    path, seen = place
    file = open_uncommitted(path)
    file.write(b"good")
    file.commit()
    file = open_uncommitted(path)
    file.write(b"bad")
    file.discard()
    del file
    assert seen() == b"good"


def test_a_commit_replaces_what_was_there(place):
    path, seen = place
    for content in (b"first, and longer", b"second"):
        file = open_uncommitted(path)
        file.write(content)
        file.commit()
    assert seen() == b"second"


def test_a_local_file_is_prepared_in_its_own_folder_so_that_the_rename_is_atomic(tmp_path):
    file = open_uncommitted(ObjectStoragePath(f"file://{tmp_path}/new/folder/a.wav"))
    file.write(b"audio")
    folder = tmp_path / "new" / "folder"
    assert [part.suffix for part in folder.iterdir()] == [".part"]
    file.discard()
    assert list(folder.iterdir()) == []


def test_a_local_file_gets_the_permissions_of_any_new_file(tmp_path):
    mask = os.umask(0o027)
    try:
        file = open_uncommitted(ObjectStoragePath(f"file://{tmp_path}/a.wav"))
        file.commit()
    finally:
        os.umask(mask)
    assert (tmp_path / "a.wav").stat().st_mode & 0o777 == 0o640


def test_a_file_that_is_replaced_keeps_its_permissions_and_a_link_stays_a_link(tmp_path):
    (tmp_path / "target.wav").write_bytes(b"old")
    (tmp_path / "target.wav").chmod(0o600)
    (tmp_path / "link.wav").symlink_to("target.wav")
    file = open_uncommitted(ObjectStoragePath(f"file://{tmp_path}/link.wav"))
    file.write(b"new")
    file.commit()
    assert (tmp_path / "link.wav").is_symlink()
    assert (tmp_path / "target.wav").read_bytes() == b"new"
    assert (tmp_path / "target.wav").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["a" * 251 + ".wav", "音" * 82 + ".wav"])
def test_a_name_as_long_as_the_filesystem_allows_can_be_stored(tmp_path, name):
    file = open_uncommitted(ObjectStoragePath(f"file://{tmp_path}") / name)
    file.write(b"audio")
    file.commit()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path):
    file = open_uncommitted(ObjectStoragePath(f"file://{tmp_path}/a.wav"))
    file.write(b"audio")
    with Path("/dev/full").open("wb") as full:  # what is in the buffer cannot be written there
        os.dup2(full.fileno(), file._file.fileno())
        with pytest.raises(OSError, match="No space"):
            file.commit()
        file.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_fails_halfway_through_a_put_keeps_what_was_there(monkeypatch, tmp_path):
    fs = fsspec.filesystem("memory")
    monkeypatch.setattr(fs, "store", {})
    monkeypatch.setattr(uncommitted, "filesystem_of", lambda _: fs)
    fs.pipe("/folder/a.wav", b"good")

    def put_half(source, target):
        fs.pipe(target, b"ha")
        raise OSError("no space left")

    monkeypatch.setattr(fs, "put_file", put_half)
    file = open_uncommitted(ObjectStoragePath("memory://folder/a.wav"))
    file.write(b"half")
    with pytest.raises(OSError, match="no space"):
        file.commit()
    assert fs.find("/") == ["/folder/a.wav"]
    assert fs.cat("/folder/a.wav") == b"good"


def test_a_file_in_the_way_of_the_folder_is_an_error_that_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DestinationError, match="is a file"):
        open_uncommitted(ObjectStoragePath(f"file://{tmp_path}/file/a.wav"))


def test_a_folder_in_the_way_of_the_file_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(DestinationError, match="End the destination with '/'"):
        open_uncommitted(ObjectStoragePath(f"file://{tmp_path}"))
