"""Local writes on mounts with missing features, and cleanup after a killed process."""

import errno
import os
import stat
import time
import uuid
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.exceptions import AudioTransferError
from airflow_provider_mps.storage.errors import UnknownOutcomeError, translate_storage_errors
from airflow_provider_mps.storage.objects import write_object
from airflow_provider_mps.storage.writers import local
from airflow_provider_mps.storage.writers.local import LocalWriter

UNSUPPORTED_ERRORS = [
    PermissionError("denied"),
    *(OSError(code, os.strerror(code)) for code in (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS)),
    OSError(errno.EINVAL, "invalid"),
]


@pytest.fixture(params=["unnamed", "named"])
def temporary_file_kind(request, monkeypatch):
    """Run with a disk that supports files without a name, and with one that does not."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE")


def write_file(path, audio=b"new"):
    file = LocalWriter(path)
    try:
        file.write(bytearray(audio))
        return file.commit()
    except BaseException:
        file.discard()
        raise


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def raise_error(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.usefixtures("temporary_file_kind")
class TestUnsupportedOperations:
    @pytest.mark.parametrize("error", UNSUPPORTED_ERRORS, ids=repr)
    @pytest.mark.parametrize("operation", ["fchmod", "chmod", "chown", "fchown", "utime", "fsync"])
    def test_unsupported_operation_does_not_prevent_replacement(self, tmp_path, monkeypatch, operation, error):
        (tmp_path / "a.wav").write_bytes(b"old")
        monkeypatch.setattr(os, operation, raise_error(error))
        assert write_file(tmp_path / "a.wav").size == 3
        assert (tmp_path / "a.wav").read_bytes() == b"new"
        assert names(tmp_path) == ["a.wav"]

    def test_write_object_without_chmod_permission_replaces_file(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "fchmod", raise_error(PermissionError(errno.EPERM, "denied")))
        path = ObjectStoragePath(f"file://{tmp_path}/results.jsonl")
        for rows in (b"one", b"one and two"):
            write_object(path, [rows])
        assert path.read_bytes() == b"one and two"

    @pytest.mark.parametrize("code", [errno.EACCES, errno.EISDIR, errno.EINVAL, errno.ENOTSUP])
    def test_folder_that_cannot_be_synced_is_ignored(self, tmp_path, monkeypatch, code):
        opened = os.open

        def open_files_only(path, flags, *mode, **options):
            if Path(path).is_dir() and not flags & getattr(os, "O_TMPFILE", 0):
                raise OSError(code, "it is a folder")
            return opened(path, flags, *mode, **options)

        monkeypatch.setattr(os, "open", open_files_only)
        write_file(tmp_path / "new" / "a.wav")
        assert (tmp_path / "new" / "a.wav").read_bytes() == b"new"

    @pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
    def test_failed_sync_keeps_older_file(self, tmp_path, monkeypatch, code):
        (tmp_path / "a.wav").write_bytes(b"old")
        monkeypatch.setattr(os, "fsync", raise_error(OSError(code, "failed")))
        with pytest.raises(OSError, match="failed"):
            write_file(tmp_path / "a.wav")
        assert (tmp_path / "a.wav").read_bytes() == b"old"
        assert names(tmp_path) == ["a.wav"]

    def test_failed_folder_sync_is_unknown_outcome(self, tmp_path, monkeypatch):
        fsync = os.fsync

        def fail_for_folders(descriptor):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(errno.EIO, "input/output error")
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", fail_for_folders)
        path = ObjectStoragePath(f"file://{tmp_path}/a.wav")
        with (
            pytest.raises(AudioTransferError, match="It is either unchanged or complete") as error,
            translate_storage_errors(path),
        ):
            write_file(tmp_path / "a.wav")
        assert isinstance(error.value.__cause__, UnknownOutcomeError)
        assert names(tmp_path) == ["a.wav"]

    def test_file_and_folders_are_synced_in_order(self, tmp_path, monkeypatch):
        fsync, replace, done = os.fsync, os.replace, []

        def record_sync(descriptor):
            done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
            fsync(descriptor)

        def record_rename(source, target):
            done.append("renamed")
            replace(source, target)

        monkeypatch.setattr(os, "fsync", record_sync)
        monkeypatch.setattr(os, "replace", record_rename)
        write_file(tmp_path / "day" / "hour" / "a.wav")
        *folders, audio, renamed, folder = done
        assert sorted(folders) == sorted([tmp_path.name, "day"])
        assert audio not in {tmp_path.name, "day", "hour"}
        assert (renamed, folder) == ("renamed", "hour")
        done.clear()
        write_file(tmp_path / "day" / "hour" / "a.wav")
        assert done[1:] == ["renamed", "hour"]


class TestLinks:
    """Name a file that was created without a name."""

    @pytest.fixture(autouse=True)
    def require_unnamed_files(self, tmp_path):
        file = LocalWriter(tmp_path / "probe.wav")
        if not file._is_unnamed:
            pytest.skip("this disk does not support files without a name")
        file.discard()

    @pytest.mark.parametrize(
        "error", [*UNSUPPORTED_ERRORS, OSError(errno.ENOENT, "no /proc"), OSError(errno.EXDEV, "other")]
    )
    @pytest.mark.parametrize("old", [None, b"old"])
    def test_file_is_copied_if_links_are_denied(self, tmp_path, monkeypatch, error, old):
        audio = os.urandom(2 * local.BLOCK_SIZE_BYTES + 5)
        if old:
            (tmp_path / "a.wav").write_bytes(old)
            (tmp_path / "a.wav").chmod(0o600)
        monkeypatch.setattr(os, "link", raise_error(error))
        assert write_file(tmp_path / "a.wav", audio).size == len(audio)
        assert (tmp_path / "a.wav").read_bytes() == audio
        assert (tmp_path / "a.wav").stat().st_mode & 0o777 == (0o600 if old else 0o666 & ~current_umask())
        assert names(tmp_path) == ["a.wav"]

    def test_failed_copy_leaves_nothing_behind(self, tmp_path, monkeypatch):
        (tmp_path / "a.wav").write_bytes(b"old")
        monkeypatch.setattr(os, "link", raise_error(PermissionError("denied")))
        monkeypatch.setattr(os, "pread", raise_error(OSError(errno.EIO, "input/output error")))
        with pytest.raises(OSError, match="input/output"):
            write_file(tmp_path / "a.wav")
        assert (tmp_path / "a.wav").read_bytes() == b"old"
        assert names(tmp_path) == ["a.wav"]

    def test_temporary_file_without_proc_has_a_name(self, tmp_path, monkeypatch):
        monkeypatch.setattr(local, "_DESCRIPTOR_FOLDER", tmp_path / "no" / "proc")
        file = LocalWriter(tmp_path / "a.wav")
        assert [local._TEMPORARY_NAME.fullmatch(name) is not None for name in names(tmp_path)] == [True]
        file.write(bytearray(b"new"))
        file.commit()
        assert (tmp_path / "a.wav").read_bytes() == b"new"
        assert names(tmp_path) == ["a.wav"]


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def create_temporary_file(folder, age, name=None):
    path = folder / (name or f".mps-audio-{uuid.uuid4().hex}.part")
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age,) * 2)
    return path.name


def test_temporary_files_of_killed_processes_are_removed(tmp_path):
    create_temporary_file(tmp_path, age=2 * 86400)
    kept = [
        create_temporary_file(tmp_path, age=3600),
        create_temporary_file(tmp_path, age=2 * 86400, name=".mps-audio-mine.part"),
        create_temporary_file(tmp_path, age=2 * 86400, name="clip.part"),
    ]
    write_file(tmp_path / "a.wav")
    assert names(tmp_path) == sorted([*kept, "a.wav"])


def test_folder_is_cleaned_once_per_process(tmp_path, monkeypatch):
    scans, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: scans.append(folder) or scandir(folder))
    for number in range(3):
        write_file(tmp_path / f"{number}.wav")
    assert scans == [tmp_path]


def test_folder_that_cannot_be_listed_is_not_cleaned(tmp_path, monkeypatch):
    with monkeypatch.context() as denied:
        denied.setattr(os, "scandir", raise_error(PermissionError("denied")))
        write_file(tmp_path / "a.wav")
    assert names(tmp_path) == ["a.wav"]


@pytest.mark.parametrize(
    ("file_system", "can_hang"),
    [("ext4", False), ("tmpfs", False), ("nfs4", True), ("fuse.s3fs", True), (None, True)],
)
def test_writer_can_hang_unless_disk_is_in_this_machine(tmp_path, monkeypatch, file_system, can_hang):
    device = tmp_path.stat().st_dev
    other = "22 27 0:999 / /proc rw,relatime - proc proc rw\n"
    mount = f"27 1 {os.major(device)}:{os.minor(device)} / / rw shared:1 - {file_system} /dev/vda rw\n"
    mounts = tmp_path / "mountinfo"
    mounts.write_text(other + (mount if file_system else ""))
    monkeypatch.setattr(local, "_MOUNTS", mounts)
    local._is_local_disk.cache_clear()
    assert LocalWriter(tmp_path / "a.wav").can_hang is can_hang
    local._is_local_disk.cache_clear()


def test_writer_can_hang_if_mounts_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_MOUNTS", tmp_path / "missing")
    local._is_local_disk.cache_clear()
    assert LocalWriter(tmp_path / "a.wav").can_hang
    local._is_local_disk.cache_clear()
