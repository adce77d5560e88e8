"""Write a local file without a name, or under a temporary one, and rename it into place when it is complete."""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

from airflow_provider_mps.storage.conditional_write import ConditionFailedError
from airflow_provider_mps.storage.errors import UnknownOutcomeError
from airflow_provider_mps.storage.writers.base import BLOCK_SIZE_BYTES, AtomicWriter, WriteReceipt

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEW_FILE_MODE = 0o666
_NO_HARD_LINK_ERRNOS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EMLINK}
_UNSUPPORTED_ERRNOS = {
    *(errno.EACCES, errno.EPERM),
    *(errno.EBADF, errno.EINVAL, errno.EISDIR, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP),
}
"""Errors of mounts (SMB, NFS, FUSE, Azure Files, FAT) that keep no permissions or cannot sync a folder."""
_DESCRIPTOR_FOLDER = Path("/proc/self/fd")
"""Where Linux lists the open files of a process, also those without a name. Some containers lack it."""
_MOUNTS = Path("/proc/self/mountinfo")
"""The file systems of a Linux process: https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html"""
_LOCAL_FILE_SYSTEMS = {"btrfs", "ext3", "ext4", "overlay", "tmpfs", "xfs", "zfs"}
_TEMPORARY_NAME = re.compile(r"\.mps-audio-[0-9a-f]{32}\.part")
_ABANDONED_SECONDS = 24 * 60 * 60.0
"""Age after which a temporary file must be from a killed process."""
_cleaned_folders: set[Path] = set()


class LocalWriter(AtomicWriter):
    """
    Writes in the folder of the path, because fsspec's temporary file may be on another disk and is then copied.

    If the disk supports files without a name, even a process that is killed leaves nothing behind.

    :param path: the file to write; missing folders are created
    :param create_only: do not replace a file; without hard links, this is only checked just before the rename
    :param reserve_name: on a mount without hard links, create an empty file first, so that only one writer succeeds
    """

    def __init__(self, path: Path, *, create_only: bool = False, reserve_name: bool = False) -> None:
        if (mode := _get_mode(path, follow_symlinks=False)) is not None and stat.S_ISLNK(mode):
            path = path.resolve()  # keeps a symbolic link and replaces its target
            mode = _get_mode(path)
        if mode is not None and stat.S_ISDIR(mode):
            raise IsADirectoryError(path)
        if mode is not None and not stat.S_ISREG(mode):
            raise ValueError(f"{path} is no regular file")
        self._path = path
        self._replaced_mode = mode
        self._create_only = create_only
        self._reserve_name = reserve_name
        self._temporary = self._path.parent / f".mps-audio-{uuid.uuid4().hex}.part"
        try:
            descriptor = self._open()
        except FileNotFoundError:
            _create_folder(self._path.parent)
            descriptor = self._open()
        _remove_abandoned_files(self._path.parent)
        self._file: IO[bytes] = os.fdopen(descriptor, "wb")
        self._written = 0
        self._lock = threading.Lock()
        """Held while the descriptor is in use: after a close, its number may be another file's."""
        self._is_discarded = False

    @property
    def can_hang(self) -> bool:
        """Whether the file may be on a network file system."""
        return not _is_local_disk(os.fstat(self._file.fileno()).st_dev)

    def _open(self) -> int:
        self._is_unnamed = _DESCRIPTOR_FOLDER.is_dir()  # required to name the file later
        if self._is_unnamed:
            with suppress(AttributeError, OSError):  # the system or the disk has no files without a name
                return os.open(self._path.parent, os.O_TMPFILE | os.O_RDWR, _NEW_FILE_MODE)
        self._is_unnamed = False
        return self._create(self._temporary)

    def _create(self, path: Path) -> int:
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _NEW_FILE_MODE)

    def write(self, block: bytearray, /) -> bytearray:
        """Append a block, and return it for reuse."""
        with self._lock:
            self._file.write(block)
        self._written += len(block)
        return block

    def commit(self) -> WriteReceipt:
        """Sync the file, give it its name, and sync the folder."""
        with self._lock:
            self._file.flush()
            descriptor = self._file.fileno()
            size = self._sync(descriptor)
            if self._is_unnamed and not self._link(descriptor):
                size = self._copy(descriptor)
            if self._is_discarded:  # during the sync
                self._temporary.unlink(missing_ok=True)
                raise OSError("the file was discarded during its commit")
            if self._create_only:
                self._rename_if_absent()
            else:
                self._temporary.replace(self._path)
            try:
                _sync_folder(self._path.parent)
            except OSError as error:  # the file is visible, but a power loss may remove it
                raise UnknownOutcomeError(f"its folder could not be synced: {error}") from error
            self._file.close()
        return WriteReceipt(size)

    def _sync(self, descriptor: int) -> int:
        """Sync a file, with the permissions of the file that it replaces; return its size."""
        if self._replaced_mode is not None:
            with ignore_unsupported():
                os.fchmod(descriptor, self._replaced_mode & 0o777)
        with ignore_unsupported():
            os.fsync(descriptor)
        size = os.fstat(descriptor).st_size
        if size != self._written:
            raise OSError(f"the disk has {size} of {self._written} bytes")
        return size

    def _link(self, descriptor: int) -> bool:
        """Give the unnamed file its temporary name; return whether the mount allows that."""
        with suppress(OSError):
            # `src_dir_fd` is not used, but makes Python pass AT_SYMLINK_FOLLOW, which links the file itself.
            os.link(_DESCRIPTOR_FOLDER / str(descriptor), self._temporary, src_dir_fd=descriptor)
            return True
        return False

    def _copy(self, descriptor: int) -> int:
        """Copy the unnamed file to the temporary name, on a mount without hard links; return its size."""
        with os.fdopen(self._create(self._temporary), "wb") as named:
            while block := os.pread(descriptor, BLOCK_SIZE_BYTES, named.tell()):
                named.write(block)
            named.flush()
            return self._sync(named.fileno())

    def _rename_if_absent(self) -> None:
        try:
            try:
                os.link(self._temporary, self._path)  # unlike a rename, never replaces a file
            except OSError as error:
                if error.errno not in _NO_HARD_LINK_ERRNOS:
                    raise
                if self._reserve_name:
                    os.close(self._create(self._path))
                elif self._path.exists():
                    raise FileExistsError(self._path) from error
                self._temporary.replace(self._path)
        except FileExistsError as error:
            raise ConditionFailedError(f"{self._path} exists") from error
        self._temporary.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the temporary file; if another thread is writing or committing it, only a later discard closes it."""
        self._is_discarded = True
        self._temporary.unlink(missing_ok=True)
        if self._lock.acquire(blocking=False):
            with suppress(OSError):  # closing flushes, which fails again on a full disk
                self._file.close()
            self._lock.release()


@cache
def _is_local_disk(device: int) -> bool:
    """Return whether a device has a file system of this machine; ``False`` if that is unknown."""
    number = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError, ValueError):
        for line in _MOUNTS.read_text().splitlines():
            fields = line.split()
            if fields[2] == number:
                return fields[fields.index("-") + 1] in _LOCAL_FILE_SYSTEMS
    return False


@contextmanager
def ignore_unsupported() -> Iterator[None]:
    """Ignore that a mount denies or lacks an operation that does not affect the content of a file."""
    try:
        yield
    except PermissionError:
        return
    except OSError as error:
        if error.errno not in _UNSUPPORTED_ERRNOS:
            raise


def _get_mode(path: Path, *, follow_symlinks: bool = True) -> int | None:
    """Return the type and the permissions of a file; ``None`` if there is none."""
    try:
        return path.stat(follow_symlinks=follow_symlinks).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _create_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        _sync_folder(each.parent)


def _sync_folder(folder: Path) -> None:
    with ignore_unsupported():
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_abandoned_files(folder: Path) -> None:
    """Remove temporary files of killed processes, once per process because listing a large folder takes time."""
    if folder in _cleaned_folders:
        return
    _cleaned_folders.add(folder)
    oldest = time.time() - _ABANDONED_SECONDS
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):  # the file may belong to another user, or be removed by another process
                if _TEMPORARY_NAME.fullmatch(entry.name) and entry.stat(follow_symlinks=False).st_mtime < oldest:
                    Path(entry).unlink()
