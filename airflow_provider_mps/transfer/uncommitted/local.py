"""A local file, written without a name and renamed when it is whole."""

from __future__ import annotations

import errno
import os
import re
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from airflow_provider_mps.conditional_write import ConditionFailedError
from airflow_provider_mps.store_errors import UnknownOutcomeError
from airflow_provider_mps.transfer.uncommitted.told import Told

if TYPE_CHECKING:
    from collections.abc import Iterator

_PERMISSIONS = 0o666
"""Less the process's umask, as for any new file."""

BLOCK_SIZE = 1024 * 1024
_NO_HARD_LINKS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EMLINK}
"""What filesystems without hard links answer to one."""

_DESCRIPTORS = Path("/proc/self/fd")
"""Where Linux names the open files of a process, also those without a name. Not every container has it."""
_NOT_OFFERED = {
    *(errno.EACCES, errno.EPERM),
    *(errno.EBADF, errno.EINVAL, errno.EISDIR, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP),
}
"""What mounts (SMB, NFS, FUSE, Azure Files, FAT) say of permissions that they do not keep, or a folder to be synced."""
_PART = re.compile(r"\.mps-audio-[0-9a-f]{32}\.part")
_ABANDONED_SECONDS = 24 * 60 * 60.0
"""A part that was not written to for so long belongs to a process that was killed."""
_cleaned: set[Path] = set()
"""Folders in which this process has removed abandoned parts."""


class LocalFile:
    """
    Written in the folder of its path: fsspec's own would be moved, byte by byte, from another disk.

    Where the disk can keep a file without a name, nothing is left even of a process that is killed outright.

    :param path: where it will appear; missing folders are made
    :param create_only: never replace a file
    """

    def __init__(self, path: Path, *, create_only: bool = False) -> None:
        if path.is_dir():
            raise IsADirectoryError(path)
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is no regular file")
        self._path = path.resolve()  # a link at the path stays one
        self._create_only = create_only
        _make_folder(self._path.parent)
        _remove_abandoned_parts(self._path.parent)
        self._part = self._path.parent / f".mps-audio-{uuid.uuid4().hex}.part"
        self._nameless = True
        self._file: IO[bytes] = os.fdopen(self._open(), "wb")
        self._written = 0
        # Held while the descriptor is used: its number, once it is closed, may be another file's.
        self._in_use = threading.Lock()
        self._discarded = False

    def _open(self) -> int:
        if _DESCRIPTORS.is_dir():  # else a file without a name could not be given one
            with suppress(AttributeError, OSError):  # not every system, and not every disk, knows files without a name
                return os.open(self._path.parent, os.O_TMPFILE | os.O_RDWR, _PERMISSIONS)
        self._nameless = False
        return self._open_part()

    def _open_part(self) -> int:
        return os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _PERMISSIONS)

    def block_size(self, _: int) -> int:
        """Tell how many bytes a block shall have."""
        return BLOCK_SIZE

    def write(self, block: bytearray, /) -> bytearray:
        """Append a block, and return it."""
        with self._in_use:
            self._file.write(block)
        self._written += len(block)
        return block

    def commit(self) -> Told:
        """Show the file, once the disk has it."""
        with self._in_use:
            self._file.flush()
            descriptor = self._file.fileno()
            size = self._sync(descriptor)
            if self._nameless and not self._name(descriptor):
                size = self._copy(descriptor)
            self._require_wanted()
            self._show()
            try:
                _sync_folder(self._path.parent)
            except OSError as error:  # it is shown, and a power loss may take it away
                raise UnknownOutcomeError(f"its folder could not be synced: {error}") from error
            self._file.close()
        return Told(size)

    def _show(self) -> None:
        """Give the whole file its name at the destination."""
        if self._create_only:
            try:
                os.link(self._part, self._path)  # unlike a rename, it replaces nothing
            except FileExistsError as error:
                raise ConditionFailedError(f"{self._path} exists") from error
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                if self._path.exists():
                    raise ConditionFailedError(f"{self._path} exists") from error
            else:
                self._part.unlink(missing_ok=True)
                return
        self._part.replace(self._path)

    def _sync(self, descriptor: int) -> int:
        """Let the disk have all of a file, with the permissions of the one it replaces; return its size."""
        if self._path.exists():
            with where_offered():
                os.fchmod(descriptor, self._path.stat().st_mode & 0o777)
        with where_offered():
            os.fsync(descriptor)
        size = os.fstat(descriptor).st_size
        if size != self._written:
            raise OSError(f"the disk has {size} of {self._written} bytes")
        return size

    def _name(self, descriptor: int) -> bool:
        """Give the file a name; return ``False`` where that is refused."""
        with suppress(OSError):
            # The descriptor of a folder, which is not used, makes Python follow the link to the file itself.
            os.link(_DESCRIPTORS / str(descriptor), self._part, src_dir_fd=descriptor)
            return True
        return False

    def _copy(self, descriptor: int) -> int:
        """Copy the file to one that has a name, on a mount without links; return its size."""
        with os.fdopen(self._open_part(), "wb") as named:
            while block := os.pread(descriptor, BLOCK_SIZE, named.tell()):
                named.write(block)
            named.flush()
            return self._sync(named.fileno())

    def _require_wanted(self) -> None:
        if self._discarded:  # while the disk took its time
            self._part.unlink(missing_ok=True)
            raise OSError("it was given up meanwhile")

    def discard(self) -> None:
        """Remove what was written; where it is being written or committed at this moment, it is closed after that."""
        self._discarded = True
        self._part.unlink(missing_ok=True)
        if self._in_use.acquire(blocking=False):
            with suppress(OSError):  # on a full disk, closing fails once more
                self._file.close()
            self._in_use.release()


@contextmanager
def where_offered() -> Iterator[None]:
    """Ignore that a filesystem refuses or lacks an operation that the bytes of the audio do not depend on."""
    try:
        yield
    except PermissionError:
        return
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise


def _make_folder(folder: Path) -> None:
    """Make a folder, and let the disk keep it."""
    if folder.is_dir():
        return
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in made:
        _sync_folder(one.parent)


def _sync_folder(folder: Path) -> None:
    """Let the disk have the names in a folder, where it offers that."""
    with where_offered():
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_abandoned_parts(folder: Path) -> None:
    """Remove what killed processes have left, once in a process: listing a large folder takes time."""
    if folder in _cleaned:
        return
    _cleaned.add(folder)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            # Another user's part cannot be removed, and another process may remove it at the same time.
            with suppress(OSError):
                if (
                    _PART.fullmatch(entry.name)
                    and time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED_SECONDS
                ):
                    Path(entry).unlink()
