"""Respect ``if_exists``: fail if there is an object at the destination, or keep it if it is the same audio."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.concurrency import call_interruptibly
from airflow_provider_mps.exceptions import DestinationError
from airflow_provider_mps.storage.destination import get_existing_size, get_filesystem
from airflow_provider_mps.storage.errors import translate_storage_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.storage.http_response import AudioMetadata
    from airflow_provider_mps.storage.progress import Logger

READ_BYTES = 1024 * 1024


class IfExists(StrEnum):
    """What to do if the destination exists; ``SKIP`` keeps only the same audio."""

    OVERWRITE = "overwrite"
    SKIP = "skip"
    FAIL = "fail"


def ensure_absent(path: ObjectStoragePath, subject: str, raise_if_cancelled: Callable[[], None]) -> None:
    """
    Return if there is no object at a path.

    :raises DestinationError: if there is one
    """
    size = call_interruptibly(lambda: get_existing_size(path, subject), raise_if_cancelled)
    if size is not None:
        raise make_exists_error(path, subject, f" ({size} bytes)")


def make_exists_error(path: ObjectStoragePath, subject: str, size: str = "") -> DestinationError:
    """Make the error for ``if_exists="fail"``."""
    return DestinationError(
        f"The audio of {subject} was not stored: {path} exists already{size} and if_exists is 'fail'. Remove it, or "
        "choose another path."
    )


def find_existing_file(
    path: ObjectStoragePath,
    if_exists: IfExists,
    subject: str,
    raise_if_cancelled: Callable[[], None],
    *,
    is_retry: bool = False,
) -> ExistingFile:
    """
    Return the file to compare with the audio; one of no size if there is nothing to compare.

    :param is_retry: whether an earlier attempt may have stored the audio: ``fail`` then keeps the same audio
    :raises DestinationError: if ``if_exists`` is ``fail``, and there is a file that is not to be compared
    """
    if if_exists is IfExists.FAIL and not is_retry:
        ensure_absent(path, subject, raise_if_cancelled)
    size = None
    if if_exists is IfExists.SKIP or (if_exists is IfExists.FAIL and is_retry):
        size = call_interruptibly(lambda: get_existing_size(path, subject), raise_if_cancelled)
    return ExistingFile(path, size or 0, subject, raise_if_cancelled, must_be_same=if_exists is IfExists.FAIL)


@dataclass(eq=False)
class ExistingFile:
    """The file at the destination of an audio."""

    path: ObjectStoragePath
    size: int
    """Bytes; 0 if there is no file to compare."""
    subject: str
    raise_if_cancelled: Callable[[], None]
    crc64: int | None = None
    """CRC-64/XZ; ``None`` until it is needed."""
    must_be_same: bool = False
    """Whether a file with another audio is an error."""

    def is_audio_of(self, metadata: AudioMetadata) -> bool:
        """
        Compare the size and, if the server sent one, the CRC-64; read the file at most once.

        :raises DestinationError: if there is no permission to read the file, or it must be the same audio and is not
        :raises AudioTransferError: if reading fails or the time is up
        """
        is_same = self._is_same(metadata)
        if self.size and self.must_be_same and not is_same:
            raise make_exists_error(self.path, self.subject, f" ({self.size} bytes)")
        return is_same

    def _is_same(self, metadata: AudioMetadata) -> bool:
        if not self.size or metadata.length not in {None, self.size}:  # an empty file is never a valid audio
            return False
        if metadata.crc64 is None:
            return metadata.length is not None
        if self.crc64 is None:
            self.crc64 = call_interruptibly(self._get_crc64, self.raise_if_cancelled)
        return self.crc64 == metadata.crc64

    def log_kept(self, log: Logger) -> None:
        """Log that the file is kept in place of a transfer."""
        if self.crc64 is None:
            log.warning(
                "%s exists with the audio's %s bytes: nothing was moved. Only the size was compared, because the "
                "server of the audio sends no CRC-64.",
                self.path,
                self.size,
            )
        else:
            log.info(
                "%s exists with the audio's %s bytes and CRC-64 %s: nothing was moved", self.path, self.size, self.crc64
            )

    def _get_crc64(self) -> int | None:
        """Return the CRC-64 that the storage keeps, or compute it; return ``None`` if the file is gone."""
        from fastcrc import crc64

        fs = get_filesystem(self.path, self.subject)
        with translate_storage_errors(self.path, self.subject, action="read"):
            try:
                fs.invalidate_cache()
                if hasattr(fs, "call_s3"):
                    return asyncio.run_coroutine_threadsafe(self._get_s3_crc64(fs), fs.loop).result()
                checksum = 0
                with fs.open(self.path.path, "rb") as file:
                    while block := file.read(READ_BYTES):
                        self.raise_if_cancelled()
                        checksum = crc64.xz(block, checksum)
            except FileNotFoundError:
                return None
        return checksum

    async def _get_s3_crc64(self, fs: Any) -> int:
        """Return COS's CRC-64, or read once: some servers send the whole object's checksum with each range."""
        from fastcrc import crc64

        from airflow_provider_mps.storage.http_response import parse_crc64

        bucket, key, _ = fs.split_path(self.path.path)
        if self.path.protocol == "cos":  # keeps the CRC-64, and HEAD does not need the permission to read
            head = await fs._call_s3("head_object", Bucket=bucket, Key=key)
            if (kept := parse_crc64(head["ResponseMetadata"]["HTTPHeaders"])) is not None:
                return kept
        response = await fs._call_s3("get_object", Bucket=bucket, Key=key)
        body = response["Body"]
        async with body:  # not `as`: older aiobotocore returns aiohttp's response there, which reads all at once
            if (kept := parse_crc64(response["ResponseMetadata"]["HTTPHeaders"])) is not None:  # COS via its S3 API
                return kept
            checksum = 0
            while block := await body.read(READ_BYTES):
                self.raise_if_cancelled()
                checksum = crc64.xz(block, checksum)
        return checksum
