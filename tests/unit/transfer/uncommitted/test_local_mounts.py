"""Mounts that refuse or lack what a local disk offers, and what a power loss or a kill may leave."""

import errno
import os
import stat
import time
import uuid
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.batch.objects import write_object
from airflow_provider_mps.errors import AudioTransferError
from airflow_provider_mps.store_errors import UnknownOutcomeError, explaining
from airflow_provider_mps.transfer.uncommitted import local
from airflow_provider_mps.transfer.uncommitted.local import LocalFile

REFUSALS = [
    PermissionError("denied"),
    *(OSError(code, os.strerror(code)) for code in (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS)),
    OSError(errno.EINVAL, "invalid"),
]


@pytest.fixture(params=["nameless", "named"])
def kind_of_disk(request, monkeypatch):
    """A disk that can keep a file without a name, and one that cannot."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE")


def store(path, audio=b"new"):
    file = LocalFile(path)
    try:
        file.write(bytearray(audio))
        return file.commit()
    except BaseException:
        file.discard()
        raise


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def refuse_with(error):
    def refuse(*_, **__):
        raise error

    return refuse


@pytest.mark.usefixtures("kind_of_disk")
class TestRefusals:
    @pytest.mark.parametrize("error", REFUSALS, ids=repr)
    @pytest.mark.parametrize("operation", ["fchmod", "chmod", "chown", "fchown", "utime", "fsync"])
    def test_file_is_replaced_where_the_mount_refuses(self, tmp_path, monkeypatch, operation, error):
        (tmp_path / "a.wav").write_bytes(b"old")
        monkeypatch.setattr(os, operation, refuse_with(error))
        assert store(tmp_path / "a.wav").size == 3
        assert (tmp_path / "a.wav").read_bytes() == b"new"
        assert names(tmp_path) == ["a.wav"]

    def test_result_manifest_of_a_batch_is_replaced_where_chmod_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "fchmod", refuse_with(PermissionError(errno.EPERM, "denied")))
        path = ObjectStoragePath(f"file://{tmp_path}/results.jsonl")
        for rows in (b"one", b"one and two"):
            write_object(path, [rows])
        assert path.read_bytes() == b"one and two"

    @pytest.mark.parametrize("code", [errno.EACCES, errno.EISDIR, errno.EINVAL, errno.ENOTSUP])
    def test_folder_that_cannot_be_synced_is_no_obstacle(self, tmp_path, monkeypatch, code):
        opened = os.open

        def open_no_folder(path, flags, *mode, **options):
            if Path(path).is_dir() and not flags & getattr(os, "O_TMPFILE", 0):
                raise OSError(code, "it is a folder")
            return opened(path, flags, *mode, **options)

        monkeypatch.setattr(os, "open", open_no_folder)
        store(tmp_path / "new" / "a.wav")
        assert (tmp_path / "new" / "a.wav").read_bytes() == b"new"

    @pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
    def test_sync_that_fails_shows_nothing(self, tmp_path, monkeypatch, code):
        (tmp_path / "a.wav").write_bytes(b"old")
        monkeypatch.setattr(os, "fsync", refuse_with(OSError(code, "failed")))
        with pytest.raises(OSError, match="failed"):
            store(tmp_path / "a.wav")
        assert (tmp_path / "a.wav").read_bytes() == b"old"
        assert names(tmp_path) == ["a.wav"]

    def test_sync_of_the_folder_that_fails_is_an_unknown_outcome(self, tmp_path, monkeypatch):
        fsync = os.fsync

        def fail_for_folders(descriptor):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(errno.EIO, "input/output error")
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", fail_for_folders)
        path = ObjectStoragePath(f"file://{tmp_path}/a.wav")
        with (
            pytest.raises(
                AudioTransferError, match="Either what was there is unchanged, or the audio is there"
            ) as error,
            explaining(path),
        ):
            store(tmp_path / "a.wav")
        assert isinstance(error.value.__cause__, UnknownOutcomeError)
        assert names(tmp_path) == ["a.wav"]

    def test_audio_and_its_name_and_new_folders_are_synced_in_order(self, tmp_path, monkeypatch):
        fsync, replace, done = os.fsync, os.replace, []

        def note_sync(descriptor):
            done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
            fsync(descriptor)

        def note_rename(source, target):
            done.append("renamed")
            replace(source, target)

        monkeypatch.setattr(os, "fsync", note_sync)
        monkeypatch.setattr(os, "replace", note_rename)
        store(tmp_path / "day" / "hour" / "a.wav")
        *folders, audio, renamed, folder = done
        assert sorted(folders) == sorted([tmp_path.name, "day"])
        assert audio not in {tmp_path.name, "day", "hour"}
        assert (renamed, folder) == ("renamed", "hour")
        done.clear()
        store(tmp_path / "day" / "hour" / "a.wav")
        assert done[1:] == ["renamed", "hour"]


class TestLinks:
    """How a file without a name gets one."""

    @pytest.fixture(autouse=True)
    def nameless(self, tmp_path):
        file = LocalFile(tmp_path / "probe.wav")
        if not file._nameless:
            pytest.skip("this disk cannot keep a file without a name")
        file.discard()

    @pytest.mark.parametrize("error", [*REFUSALS, OSError(errno.ENOENT, "no /proc"), OSError(errno.EXDEV, "other")])
    @pytest.mark.parametrize("old", [None, b"old"])
    def test_file_is_copied_where_links_are_refused(self, tmp_path, monkeypatch, error, old):
        audio = os.urandom(2 * local.BLOCK_SIZE + 5)
        if old:
            (tmp_path / "a.wav").write_bytes(old)
            (tmp_path / "a.wav").chmod(0o600)
        monkeypatch.setattr(os, "link", refuse_with(error))
        assert store(tmp_path / "a.wav", audio).size == len(audio)
        assert (tmp_path / "a.wav").read_bytes() == audio
        assert (tmp_path / "a.wav").stat().st_mode & 0o777 == (0o600 if old else 0o666 & ~current_umask())
        assert names(tmp_path) == ["a.wav"]

    def test_copy_that_fails_leaves_nothing(self, tmp_path, monkeypatch):
        (tmp_path / "a.wav").write_bytes(b"old")
        monkeypatch.setattr(os, "link", refuse_with(PermissionError("denied")))
        monkeypatch.setattr(os, "pread", refuse_with(OSError(errno.EIO, "input/output error")))
        with pytest.raises(OSError, match="input/output"):
            store(tmp_path / "a.wav")
        assert (tmp_path / "a.wav").read_bytes() == b"old"
        assert names(tmp_path) == ["a.wav"]

    def test_file_has_a_name_from_the_start_without_proc(self, tmp_path, monkeypatch):
        monkeypatch.setattr(local, "_DESCRIPTORS", tmp_path / "no" / "proc")
        file = LocalFile(tmp_path / "a.wav")
        assert [local._PART.fullmatch(name) is not None for name in names(tmp_path)] == [True]
        file.write(bytearray(b"new"))
        file.commit()
        assert (tmp_path / "a.wav").read_bytes() == b"new"
        assert names(tmp_path) == ["a.wav"]


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def put_part(folder, age, name=None):
    path = folder / (name or f".mps-audio-{uuid.uuid4().hex}.part")
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age,) * 2)
    return path.name


def test_parts_that_killed_processes_have_left_are_removed_by_the_next_store(tmp_path):
    put_part(tmp_path, age=2 * 86400)
    kept = [
        put_part(tmp_path, age=3600),
        put_part(tmp_path, age=2 * 86400, name=".mps-audio-mine.part"),
        put_part(tmp_path, age=2 * 86400, name="clip.part"),
    ]
    store(tmp_path / "a.wav")
    assert names(tmp_path) == sorted([*kept, "a.wav"])


def test_folder_is_searched_for_abandoned_parts_once(tmp_path, monkeypatch):
    scans, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: scans.append(folder) or scandir(folder))
    for number in range(3):
        store(tmp_path / f"{number}.wav")
    assert scans == [tmp_path]


def test_folder_that_may_not_be_searched_is_no_obstacle(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "scandir", refuse_with(PermissionError("denied")))
    store(tmp_path / "a.wav")
    assert names(tmp_path) == ["a.wav"]
