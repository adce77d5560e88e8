"""A file of a filesystem that holds it back by itself: fsspec's ``autocommit=False``."""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import Any

from airflow_provider_mps.conditional_write import TOKEN_KEY, ConditionFailedError, new_token
from airflow_provider_mps.store_errors import UnknownOutcomeError, committing
from airflow_provider_mps.transfer.parts import PART_SIZE
from airflow_provider_mps.transfer.uncommitted.told import Told


class HeldBackFile:
    """
    Put with one request where it is no longer than one block; else the filesystem's own uncommitted file.

    :param fs: the fsspec filesystem
    :param path: the path in it
    :param options: what both ways of writing take, e.g. a content type
    :param create_only: never replace an object, if the filesystem has that mode
    """

    def __init__(self, fs: Any, path: str, options: dict[str, Any], *, create_only: bool = False) -> None:
        self._fs = fs
        self._path = path
        self._options = options
        self._token: str | None = None
        """Recognises the object if an earlier attempt of the same request has created it."""
        if create_only and "mode" in inspect.signature(fs._pipe_file).parameters:  # gcsfs has it since 2024.12
            self._token = new_token()
            self._options = {**options, "metadata": {TOKEN_KEY: self._token}}
        self._last: bytearray | None = None
        self._file: Any = None

    def block_size(self, _: int) -> int:
        """Tell how many bytes a block shall have."""
        return PART_SIZE

    def write(self, block: bytearray, /) -> bytearray | None:
        """Append the block before this one, and return it: the last of all goes with the commit, which verifies it."""
        before, self._last = self._last, block
        if before is not None:
            if self._file is None:
                self._open()
            try:
                self._file.write(before)
            except FileExistsError as error:  # the answer to the first request of an upload
                raise ConditionFailedError(f"{self._path} exists") from error
        return before

    def _open(self) -> None:
        mode = "xb" if self._token else "wb"
        self._file = self._fs.open(self._path, mode, autocommit=False, block_size=PART_SIZE, **self._options)
        with suppress(ValueError):
            # Or a transaction of somebody else on the same filesystem would commit it.
            self._fs.transaction.files.remove(self._file)

    def commit(self) -> Told:
        """Show the file."""
        last = bytes(self._last or b"")
        try:
            with committing():
                try:
                    self._finish(last)
                except FileExistsError as error:
                    return self._require_mine(error)
        except UnknownOutcomeError as error:
            if type(error.__cause__).__name__ != "ChecksumError":  # gcsfs's, of what the store has shown already
                raise
            if self._file is not None:
                self._file.closed = True
            return Told(wrong="its MD5 is another one than that of what was sent")
        return Told(md5=True)

    def _finish(self, last: bytes) -> None:
        if self._file is None:
            create = {"mode": "create"} if self._token else {}
            self._fs.pipe_file(self._path, last, **create, **self._options)
        else:
            self._file.blocksize += PART_SIZE  # so that it is kept for the commit
            self._file.write(last)
            self._file.commit()
            self._file.closed = True

    def _require_mine(self, error: FileExistsError) -> Told:
        """
        Look whether the object that is there already is this one: gcsfs repeats a request whose response was lost.

        :raises ConditionFailedError: when it is another
        """
        self._fs.invalidate_cache()
        try:
            there = self._fs.info(self._path)
        except FileNotFoundError:
            raise error from None
        if self._token is None or (there.get("metadata") or {}).get(TOKEN_KEY) != self._token:
            raise ConditionFailedError(f"{self._path} exists") from error
        if self._file is not None:
            self._file.closed = True
        return Told(int(there["size"]))

    def discard(self) -> None:
        """Leave the path as it was."""
        if self._file is not None:
            # Or the garbage collector would close it, which uploads what is still in its buffer.
            self._file.closed = True
            self._file.discard()
