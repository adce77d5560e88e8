"""Compare the file at a destination with the audio to store there, for ``if_exists="skip"``."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastcrc import crc64

from airflow_provider_mps.concurrency import call_interruptibly
from airflow_provider_mps.storage.destination import get_filesystem
from airflow_provider_mps.storage.errors import translate_storage_errors
from airflow_provider_mps.storage.http_response import parse_crc64

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.storage.http_response import AudioMetadata

READ_BYTES = 1024 * 1024


@dataclass(eq=False)
class ExistingFile:
    """The file at the destination of an audio."""

    path: ObjectStoragePath
    size: int
    """Bytes; 0 if there is no file to compare."""
    subject: str
    """The task or line whose audio is to be stored there, for errors."""
    raise_if_cancelled: Callable[[], None]
    """Called between reads."""
    crc64: int | None = None
    """CRC-64/XZ; ``None`` until it is needed."""

    def is_audio_of(self, metadata: AudioMetadata) -> bool:
        """
        Compare the size and, if the server sent one, the CRC-64; read the file at most once.

        :raises DestinationError: if there is no permission to read the file
        :raises AudioTransferError: if reading fails or the time is up
        """
        if not self.size or metadata.length not in {None, self.size}:  # an empty file is never a valid audio
            return False
        if metadata.crc64 is None:
            return metadata.length is not None
        if self.crc64 is None:
            self.crc64 = call_interruptibly(self._get_crc64, self.raise_if_cancelled)
        return self.crc64 == metadata.crc64

    def _get_crc64(self) -> int | None:
        """Return the CRC-64 that the storage keeps, or compute it; return ``None`` if the file is gone."""
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
        """Read with one request, because some servers send a checksum of the whole object with each range."""
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
