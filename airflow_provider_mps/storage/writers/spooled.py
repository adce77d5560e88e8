"""Write to filesystems without uncommitted files: spool to the worker's disk, and upload at the commit."""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.storage.conditional_write import AZURE_PROTOCOLS, AzureObject
from airflow_provider_mps.storage.errors import NotReplacedError, UnknownOutcomeError, commit_guard, is_permission_error
from airflow_provider_mps.storage.writers.base import AtomicWriter, WriteReceipt

if TYPE_CHECKING:
    from collections.abc import Iterator

_ATOMIC_PUT_PROTOCOLS = AZURE_PROTOCOLS | {"oss"}
"""Object storage, where an uploaded file appears when all of it has arrived."""
RENAME_PROTOCOLS = {"ftp", "hdfs", "memory", "sftp", "smb", "ssh", "webhdfs"}
"""Filesystems whose ``mv`` is a rename; that of others copies. Some servers do not rename to an existing name."""
SPOOLED_PROTOCOLS = _ATOMIC_PUT_PROTOCOLS | RENAME_PROTOCOLS


class SpooledWriter(AtomicWriter):
    """
    Writes to a temporary file of the worker, and uploads it at the commit; the arguments are as in ``open_writer``.

    ``content_type`` and ``create_only`` have an effect in Azure only.
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

    def write(self, block: bytearray, /) -> bytearray:
        """Append a block, and return it for reuse."""
        with self._spool_errors():
            self._spool.write(block)
        self._written += len(block)
        self._md5.update(block)
        return block

    def commit(self) -> WriteReceipt:
        """Upload the file, and query its size."""
        with self._spool_errors():
            self._spool.flush()
        if self._protocol in RENAME_PROTOCOLS:
            self._upload_and_rename()
        else:
            with commit_guard():
                self._upload()
        self._spool.close()
        try:
            return WriteReceipt(self._get_size(self._path))
        except Exception as error:
            if is_permission_error(error):  # a permission to write does not include one to read
                return WriteReceipt()
            raise UnknownOutcomeError(f"it was uploaded, but its size could not be queried: {error}") from error

    def _upload(self) -> None:
        options: dict[str, Any] = {}
        if self._protocol in AZURE_PROTOCOLS:
            from azure.storage.blob import ContentSettings

            # Azure does not verify this MD5, but readers can.
            md5 = bytearray(self._md5.digest())
            options["content_settings"] = ContentSettings(content_type=self._content_type, content_md5=md5)
            if self._create_only:
                self._spool.seek(0)
                AzureObject(self._fs, self._path).create_from(self._spool, **options)
                return
        self._fs.put_file(self._spool.name, self._path, **options)

    def _upload_and_rename(self) -> None:
        temporary = f"{self._path.rpartition('/')[0]}/.mps-audio-{uuid.uuid4().hex}.part"
        try:
            self._fs.put_file(self._spool.name, temporary)
            self._validate_size(temporary)
            with commit_guard():
                self._rename(temporary)
        except BaseException:
            with suppress(Exception):
                self._fs.rm_file(temporary)
            raise

    def _rename(self, temporary: str) -> None:
        try:
            self._fs.mv(temporary, self._path)
        except FileExistsError as error:  # SMB
            raise NotReplacedError(str(error)) from error
        if self._protocol == "webhdfs" and self._fs.exists(temporary):  # it reports no error
            raise NotReplacedError(self._path)

    def _validate_size(self, path: str) -> None:
        if (size := self._get_size(path)) != self._written:
            raise OSError(f"the storage has {size} of {self._written} bytes")

    def _get_size(self, path: str) -> int:
        self._fs.invalidate_cache()
        return int(self._fs.info(path)["size"])

    def discard(self) -> None:
        """Remove the temporary file."""
        self._spool.close()

    @contextmanager
    def _spool_errors(self) -> Iterator[None]:
        """Name the temporary folder in an error, so that it is not mistaken for the destination."""
        try:
            yield
        except OSError as error:
            folder = Path(self._spool.name).parent
            raise OSError(
                error.errno, f"the worker's temporary folder {folder} cannot hold it: {error.strerror}"
            ) from error
