"""A local file, written without a name and renamed when it is whole."""

from __future__ import annotations

import errno
import os
import threading
import uuid
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from airflow_provider_mps.conditional_write import ConditionFailedError
from airflow_provider_mps.transfer.uncommitted.told import Told

if TYPE_CHECKING:
    from pathlib import Path

_PERMISSIONS = 0o666
"""Less the process's umask, as for any new file."""

BLOCK_SIZE = 1024 * 1024
_NO_HARD_LINKS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EMLINK}
"""What filesystems without hard links answer to one."""


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
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._part = self._path.parent / f".mps-audio-{uuid.uuid4().hex}.part"
        self._nameless = True
        self._file: IO[bytes] = os.fdopen(self._open(), "wb")
        self._written = 0
        # Held while the descriptor is used: its number, once it is closed, may be another file's.
        self._in_use = threading.Lock()
        self._discarded = False

    def _open(self) -> int:
        with suppress(AttributeError, OSError):  # not every system, and not every disk, knows files without a name
            return os.open(self._path.parent, os.O_TMPFILE | os.O_WRONLY, _PERMISSIONS)
        self._nameless = False
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
            os.fsync(descriptor)
            size = os.fstat(descriptor).st_size
            if size != self._written:
                raise OSError(f"the disk has {size} of {self._written} bytes")
            if self._path.exists():
                os.fchmod(descriptor, self._path.stat().st_mode & 0o777)
            if self._nameless:
                # The descriptor of a folder, which is not used, makes Python follow the link to the file itself.
                os.link(f"/proc/self/fd/{descriptor}", self._part, src_dir_fd=descriptor)
            self._require_wanted()
            self._show()
            self._file.close()
        return Told(size)

    def _show(self) -> None:
        """Give the whole file its name."""
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
