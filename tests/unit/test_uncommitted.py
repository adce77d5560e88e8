import os

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
    assert [part.name.startswith(".a.wav.") for part in folder.iterdir()] == [True]
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


def test_a_file_in_the_way_of_the_folder_is_an_error_that_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DestinationError, match="is a file"):
        open_uncommitted(ObjectStoragePath(f"file://{tmp_path}/file/a.wav"))


def test_a_folder_in_the_way_of_the_file_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(DestinationError, match="End the destination with '/'"):
        open_uncommitted(ObjectStoragePath(f"file://{tmp_path}"))
