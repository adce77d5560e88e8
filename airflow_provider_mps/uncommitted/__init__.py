"""Files that nobody sees until they are committed, on every filesystem behind ``ObjectStoragePath``."""

from __future__ import annotations

import os
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from airflow_provider_mps.destination import explaining, filesystem_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath


# Filesystems whose `autocommit=False` is known to keep a file unseen until its commit. Others take the word and
# publish all the same; fsspec's own memory filesystem even empties what is there.
_CAN_WAIT = {"s3", "s3a"}
# Object stores, where a file that is put appears when all of it is there.
_PUTS_WHOLE = {"gs", "gcs", "abfs", "abfss", "adl", "wasb", "oss"}


class UncommittedFile(Protocol):
    """A file that nobody sees until it is committed."""

    def write(self, data: bytes, /) -> object:
        """Append bytes."""

    def commit(self) -> None:
        """Show the file at its path, whole, in place of what was there."""

    def discard(self) -> None:
        """Leave the path as it was."""


def open_uncommitted(path: ObjectStoragePath) -> UncommittedFile:
    """
    Open a file for writing that appears at ``path`` only when it is committed.

    :raises DestinationError: when the path cannot be written until somebody mends it
    """
    fs = filesystem_of(path)
    with explaining(path):
        if path.protocol in {"", "file", "local"}:
            return _LocalFile(Path(path.path))
        if path.protocol in _CAN_WAIT:
            return _BufferedFile(fs.open(path.path, "wb", autocommit=False))
        return _SpooledFile(fs, path.path, puts_whole=path.protocol in _PUTS_WHOLE)


class _LocalFile:
    """Written beside its path and renamed: fsspec's own would be moved, byte by byte, from another disk."""

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise IsADirectoryError(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path.resolve()  # a link at the path stays one
        descriptor, part = tempfile.mkstemp(prefix=".mps-audio-", suffix=".part", dir=self._path.parent)
        self._part = Path(part)
        self._file: IO[bytes] = os.fdopen(descriptor, "wb")

    def write(self, data: bytes, /) -> object:
        return self._file.write(data)

    def commit(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.chmod(self._path.stat().st_mode & 0o777 if self._path.exists() else 0o666 & ~_umask())
        self._part.replace(self._path)

    def discard(self) -> None:
        self._part.unlink(missing_ok=True)
        with suppress(OSError):  # on a full disk, closing fails once more
            self._file.close()


class _BufferedFile:
    """A filesystem's own uncommitted file, e.g. a multipart upload that is completed or aborted."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: bytes, /) -> object:
        return self._file.write(data)

    def commit(self) -> None:
        self._file.close()
        self._file.commit()

    def discard(self) -> None:
        self._file.discard()
        # Or the garbage collector would close it, which starts an upload of what is still in its buffer.
        self._file.closed = True


class _SpooledFile:
    """For a filesystem without uncommitted files: kept on the worker's disk until it is whole."""

    def __init__(self, fs: Any, path: str, *, puts_whole: bool) -> None:
        self._fs = fs
        self._path = path
        self._puts_whole = puts_whole
        self._spool = tempfile.NamedTemporaryFile(prefix="mps-audio-")  # noqa: SIM115 - lives until commit or discard

    def write(self, data: bytes, /) -> object:
        return self._spool.write(data)

    def commit(self) -> None:
        self._spool.flush()
        if self._puts_whole:
            self._fs.put_file(self._spool.name, self._path)
        else:
            self._put_and_rename()
        self._spool.close()

    def _put_and_rename(self) -> None:
        part = f"{self._path.rpartition('/')[0]}/.mps-audio-{uuid.uuid4().hex}.part"
        try:
            self._fs.put_file(self._spool.name, part)
            self._fs.mv(part, self._path)
        except BaseException:
            with suppress(Exception):
                self._fs.rm_file(part)
            raise

    def discard(self) -> None:
        self._spool.close()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
