"""Compare what is at a destination already with the audio that a server sends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fastcrc import crc64

from airflow_provider_mps.destination import filesystem_of
from airflow_provider_mps.store_errors import explaining
from airflow_provider_mps.transfer.download import crc64_of
from airflow_provider_mps.transfer.waited_for import waited_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.transfer.download import Source

READ_SIZE = 1024 * 1024
"""Bytes."""


class ExistingFile:
    """
    A file at the destination of an audio.

    :param path: where it is
    :param size: bytes; ``None`` where there is no file, or none to compare
    :param subject: whose audio is to be stored there, for errors
    :param still_wanted: called while reading; raises when the time is up
    """

    def __init__(
        self, path: ObjectStoragePath, size: int | None, subject: str, still_wanted: Callable[[], None]
    ) -> None:
        self._path = path
        self._subject = subject
        self._still_wanted = still_wanted
        self.size = size or 0
        self.crc64: int | None = None
        """CRC-64/XZ; ``None`` before it was needed."""

    def is_audio_of(self, source: Source) -> bool:
        """
        Compare the size and, where the source has one, the CRC-64; the file is read at most once.

        :raises DestinationError: when the file may not be read
        :raises AudioTransferError: when reading fails, or the time is up
        """
        if not self.size or source.length not in {None, self.size}:  # an empty audio is none, there or here
            return False
        if source.crc64 is None:
            return source.length is not None
        if self.crc64 is None:
            self.crc64 = waited_for(self._read_crc64, self._still_wanted)
        return self.crc64 == source.crc64

    def _read_crc64(self) -> int | None:
        """Return the CRC-64 that the storage keeps or that its bytes have; ``None`` where the file is gone."""
        fs = filesystem_of(self._path, self._subject)
        with explaining(self._path, self._subject, doing="read"):
            try:
                fs.invalidate_cache()
                if hasattr(fs, "call_s3"):
                    reading = asyncio.run_coroutine_threadsafe(self._read_s3(fs), fs.loop)
                    return reading.result()
                found = 0
                with fs.open(self._path.path, "rb") as file:
                    while block := file.read(READ_SIZE):
                        self._still_wanted()
                        found = crc64.xz(block, found)
            except FileNotFoundError:
                return None
        return found

    async def _read_s3(self, fs: Any) -> int:
        """Read with one request, because some servers send a checksum of the whole with each range."""
        bucket, key, _ = fs.split_path(self._path.path)
        if self._path.protocol == "cos":  # which keeps the CRC-64, and has a permission of its own for reading
            head = await fs._call_s3("head_object", Bucket=bucket, Key=key)
            if (kept := crc64_of(head["ResponseMetadata"]["HTTPHeaders"])) is not None:
                return kept
        answer = await fs._call_s3("get_object", Bucket=bucket, Key=key)
        body = answer["Body"]
        async with body:  # not `as`: older versions of aiobotocore return aiohttp's response, which reads all at once
            if (kept := crc64_of(answer["ResponseMetadata"]["HTTPHeaders"])) is not None:  # COS by its S3 API
                return kept
            found = 0
            while block := await body.read(READ_SIZE):
                self._still_wanted()
                found = crc64.xz(block, found)
        return found
