"""Write to Google Cloud Storage: one request for a small file, else gcsfs's own file with ``autocommit=False``."""

from __future__ import annotations

import inspect
import uuid
from contextlib import suppress
from typing import Any

from airflow_provider_mps.storage.conditional_write import TOKEN_KEY, ConditionFailedError
from airflow_provider_mps.storage.errors import UnknownOutcomeError, commit_guard
from airflow_provider_mps.storage.writers.base import PART_SIZE_BYTES, AtomicWriter, WriteReceipt


class GcsWriter(AtomicWriter):
    """Writes one object of a ``gcsfs.GCSFileSystem``; the arguments are as in ``open_writer``."""

    def __init__(self, fs: Any, path: str, *, content_type: str | None = None, create_only: bool = False) -> None:
        self._fs = fs
        self._path = path
        self._options: dict[str, Any] = {"consistency": "md5"}  # gcsfs compares the MD5 in Google's response
        if content_type:
            self._options["content_type"] = content_type
        self._token: str | None = None  # identifies the object if an earlier attempt of the request has created it
        if create_only and "mode" in inspect.signature(fs._pipe_file).parameters:  # gcsfs 2024.12 and later
            self._token = uuid.uuid4().hex
            self._options["metadata"] = {TOKEN_KEY: self._token}
        self._last: bytearray | None = None
        self._file: Any = None

    def get_block_size(self, _: int) -> int:
        """Return the size in bytes of every block."""
        return PART_SIZE_BYTES

    def write(self, block: bytearray, /) -> bytearray | None:
        """Send the block before this one, and return it; the last block is sent with the commit, which verifies it."""
        previous, self._last = self._last, block
        if previous is not None:
            if self._file is None:
                self._open()
            try:
                self._file.write(previous)
            except FileExistsError as error:  # the response to the first request of an upload
                raise ConditionFailedError(f"{self._path} exists") from error
        return previous

    def _open(self) -> None:
        mode = "xb" if self._token else "wb"
        self._file = self._fs.open(self._path, mode, autocommit=False, block_size=PART_SIZE_BYTES, **self._options)
        with suppress(ValueError):
            # Otherwise another transaction on the same filesystem would commit it.
            self._fs.transaction.files.remove(self._file)

    def commit(self) -> WriteReceipt:
        """Send the last block, and make the object visible."""
        last = bytes(self._last or b"")
        receipt = WriteReceipt(md5=True)
        try:
            with commit_guard():
                try:
                    self._finish(last)
                except FileExistsError as error:
                    receipt = self._recognize_object(error)
        except UnknownOutcomeError as error:
            if type(error.__cause__).__name__ != "ChecksumError":  # gcsfs raises it when the object is visible already
                raise
            receipt = WriteReceipt(mismatch="its MD5 differs from that of the sent bytes")
        if self._file is not None:
            self._file.closed = True
        return receipt

    def _finish(self, last: bytes) -> None:
        if self._file is None:
            create = {"mode": "create"} if self._token else {}
            self._fs.pipe_file(self._path, last, **create, **self._options)
        else:
            self._file.blocksize += PART_SIZE_BYTES  # keeps the last block in the buffer until the commit
            self._file.write(last)
            self._file.commit()

    def _recognize_object(self, error: FileExistsError) -> WriteReceipt:
        """Return the receipt of an object that this writer has created: gcsfs repeats a request without a response."""
        self._fs.invalidate_cache()
        try:
            info = self._fs.info(self._path)
        except FileNotFoundError:
            raise error from None
        if self._token is None or (info.get("metadata") or {}).get(TOKEN_KEY) != self._token:
            raise ConditionFailedError(f"{self._path} exists") from error
        return WriteReceipt(int(info["size"]))

    def discard(self) -> None:
        """Cancel the upload."""
        if self._file is not None:
            self._file.closed = True  # otherwise garbage collection closes it, which uploads its buffer
            self._file.discard()
