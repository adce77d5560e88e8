"""A file for a filesystem that cannot hold one back: kept on the worker's disk until it is whole."""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.conditional_write import AzureObject, new_token
from airflow_provider_mps.store_errors import NotReplacedError, UnknownOutcomeError, committing, lacks_permission
from airflow_provider_mps.transfer.uncommitted.told import Told

if TYPE_CHECKING:
    from collections.abc import Iterator

_AZURE = {"abfs", "abfss", "adl", "az", "wasb"}
# Object stores, where a file that is put appears when all of it is there.
_PUTS_WHOLE = _AZURE | {"oss"}
# Their `mv` shows a file at once; that of most other filesystems copies it, and readers see parts.
_RENAMES = {"ftp", "hdfs", "memory", "sftp", "smb", "ssh", "webhdfs"}
SUPPORTED = _PUTS_WHOLE | _RENAMES
MAY_NOT_REPLACE = _RENAMES
"""Filesystems of which some do not replace a file, whatever the user may do."""
"""Protocols whose readers never see a part of a file."""

BLOCK_SIZE = 1024 * 1024


class SpooledFile:
    """
    Written to a temporary file of this machine, and put when it is committed.

    :param fs: the fsspec filesystem
    :param path: the path in it
    :param protocol: of the filesystem
    :param content_type: kept with the file by a store that can
    :param create_only: never replace a file, in Azure; elsewhere only the caller's look keeps it
    """

    def __init__(
        self, fs: Any, path: str, protocol: str, *, content_type: str | None = None, create_only: bool = False
    ) -> None:
        self._fs = fs
        self._path = path
        self._protocol = protocol
        self._content_type = content_type
        self._create_only = create_only
        self._spool = tempfile.NamedTemporaryFile(prefix="mps-audio-")  # noqa: SIM115 - lives until commit or discard
        self._written = 0
        self._md5 = hashlib.md5(usedforsecurity=False)

    def block_size(self, _: int) -> int:
        """Tell how many bytes a block shall have."""
        return BLOCK_SIZE

    def write(self, block: bytearray, /) -> bytearray:
        """Append a block, and return it."""
        with _telling_where(self._spool.name):
            self._spool.write(block)
        self._written += len(block)
        self._md5.update(block)
        return block

    def commit(self) -> Told:
        """Put the file, and ask what the store tells of it."""
        with _telling_where(self._spool.name):
            self._spool.flush()
        if self._create_only and self._protocol in _AZURE:
            self._spool.seek(0)
            with committing():
                AzureObject(self._fs, self._path).create_from(self._spool, new_token(), **self._options())
        elif self._protocol in _PUTS_WHOLE:
            with committing():
                self._fs.put_file(self._spool.name, self._path, **self._options())
        else:
            self._put_and_rename()
        self._spool.close()
        try:
            return Told(self._size_of(self._path))
        except Exception as error:
            if lacks_permission(error):  # who may write need not be who may look
                return Told()
            raise UnknownOutcomeError(f"it was put, and then its store does not tell of it: {error}") from error

    def _put_and_rename(self) -> None:
        part = f"{self._path.rpartition('/')[0]}/.mps-audio-{uuid.uuid4().hex}.part"
        try:
            self._fs.put_file(self._spool.name, part)
            self._require_whole(part)
            with committing():
                self._rename(part)
        except BaseException:
            with suppress(Exception):
                self._fs.rm_file(part)
            raise

    def _rename(self, part: str) -> None:
        try:
            self._fs.mv(part, self._path)
        except FileExistsError as error:  # SMB
            raise NotReplacedError(str(error)) from error
        if self._protocol == "webhdfs" and self._fs.exists(part):  # which reports no error
            raise NotReplacedError(self._path)

    def _options(self) -> dict[str, Any]:
        if self._protocol not in _AZURE:
            return {}
        from azure.storage.blob import ContentSettings  # noqa: PLC0415 - there where its filesystem is

        # Azure keeps the MD5 and verifies nothing by it, but whoever reads the file can.
        return {
            "content_settings": ContentSettings(
                content_type=self._content_type, content_md5=bytearray(self._md5.digest())
            )
        }

    def _require_whole(self, part: str) -> None:
        size = self._size_of(part)
        if size != self._written:
            raise OSError(f"the store has {size} of {self._written} bytes")

    def _size_of(self, path: str) -> int:
        self._fs.invalidate_cache()
        return int(self._fs.info(path)["size"])

    def discard(self) -> None:
        """Forget what was written."""
        self._spool.close()


@contextmanager
def _telling_where(spool: str) -> Iterator[None]:
    """Let nobody take a full temporary folder for a full destination."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno, f"the worker's temporary folder {Path(spool).parent} cannot hold it: {error.strerror}"
        ) from error
