"""Download an audio: retry, resume with range requests, and verify the result."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastcrc import crc64

from airflow_provider_mps.concurrency import call_interruptibly
from airflow_provider_mps.exceptions import AudioTransferError
from airflow_provider_mps.storage.http import TransientUrlError, UrlError, open_url, validate_http_url
from airflow_provider_mps.storage.http_response import AudioMetadata, ResponseAction, classify_response
from airflow_provider_mps.storage.writers.base import MAX_LENGTH_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_mps.storage.deadline import Deadline
    from airflow_provider_mps.storage.http import OpenResponse
    from airflow_provider_mps.storage.progress import Logger, Progress
    from airflow_provider_mps.storage.transfer import Upload

_CONTENT_CODINGS = {
    *("aes128gcm", "br", "compress", "dcb", "dcz", "deflate", "exi", "gzip", "pack200-gzip", "zstd"),
    *("x-compress", "x-gzip"),
}
"""
Content codings that change the bytes: https://www.iana.org/assignments/http-parameters. Storages also send values that
do not, e.g. ``aws-chunked``, ``utf-8`` or ``binary``.
"""
MAX_ATTEMPTS = 50
MAX_ATTEMPTS_WITHOUT_PROGRESS = 5
"""Consecutive attempts that bring no new byte."""
MAX_RESTARTS = 4
"""Times that all received bytes are discarded."""
FIRST_BACKOFF_SECONDS = 0.5
"""Upper limit of the first pause; it doubles with each failed attempt. Each pause is random, from 0 to its limit."""
MAX_BACKOFF_SECONDS = 10.0


@dataclass(repr=False, eq=False)  # the URL must not appear in a repr
class Download:
    """The download of one audio into a sink."""

    url: str
    """The signed URL; replaced when it has expired."""
    sink: Upload
    get_fresh_url: Callable[[], str]
    subject: str
    """The task or line whose audio it is, for logs and errors."""
    log: Logger
    deadline: Deadline
    progress: Progress
    metadata: AudioMetadata = field(default_factory=AudioMetadata)
    received: int = 0
    """Bytes that the sink has."""
    crc64: int = 0
    """CRC-64/XZ of these bytes."""
    _attempts: int = 0
    """Failed attempts."""
    _attempts_without_progress: int = 0
    _restarts: int = 0

    def run(self, is_stored: Callable[[AudioMetadata], bool] = lambda _: False) -> bool:
        """
        Download and verify the audio, unless it is stored already.

        :param is_stored: returns whether the destination already holds the audio that the server announces
        :return: whether the audio was downloaded
        :raises AudioTransferError: if the audio cannot be downloaded whole in several attempts
        """
        try:
            validate_http_url(self.url)
            while True:
                try:
                    return self._attempt(is_stored)
                except (_RetryableError, TransientUrlError) as error:
                    self.deadline.check()  # may have ended the attempt
                    self._attempts += 1
                    if not self._has_attempts_left():
                        problem = f"{self._format_received()}, and the last attempt failed: {error}"
                        raise self._make_error(problem) from error
                    self._prepare_retry(error)
                # Not with tenacity: even without a retry, it leaves cyclic garbage, which slows small clips down.
                longest = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** (self._attempts - 1))
                self.deadline.sleep(random.uniform(0, longest))  # noqa: S311 - not for security
        except UrlError as error:
            raise self._make_error(str(error)) from error

    def _attempt(self, is_stored: Callable[[AudioMetadata], bool]) -> bool:
        """Download the missing bytes and verify the audio; return ``False`` if it is stored already."""
        self.deadline.check()
        received_before = self.received
        try:
            headers = self.metadata.make_range_headers(self.received)
            with open_url(self.url, headers, self.deadline.check) as response:
                self._handle_headers(response)
                if not self.received and is_stored(self.metadata):
                    return False
                for block in response.read_blocks():
                    self._write(block)
        finally:
            has_progressed = self.received > received_before
            self._attempts_without_progress = 0 if has_progressed else self._attempts_without_progress + 1
        if defect := self.metadata.find_defect(self.received, self.crc64):
            raise _RetryableError(defect)
        return True

    def _write(self, block: bytes) -> None:
        self.deadline.check()
        self.sink.write(block)
        self.received += len(block)
        self.crc64 = crc64.xz(block, self.crc64)
        self.progress.update(self.received, self.metadata.length)

    def _handle_headers(self, response: OpenResponse) -> None:
        """Return if the body can be read; raise otherwise."""
        action = classify_response(response.status, response.headers, self.received, self.metadata)
        if action is ResponseAction.READ_REST:
            return
        if action is ResponseAction.READ_WHOLE:
            if self.received:
                self.log.info("Restarting the download, because the audio changed or cannot be resumed")
                self._restart()
            self.metadata = AudioMetadata.from_headers(response.headers)
            self._validate_metadata(response)
            self.sink.start(self.metadata)
            return
        problem = f"{action} (HTTP {response.status})"
        if action is ResponseAction.FAIL:
            raise self._make_error(problem)
        if action is ResponseAction.RESTART:
            self._restart()
        if action is ResponseAction.REFRESH_URL:
            self.url = call_interruptibly(self.get_fresh_url, self.deadline.check)
            validate_http_url(self.url)
            problem += ", so a new one was requested from MPS"
        raise _RetryableError(problem)

    def _validate_metadata(self, response: OpenResponse) -> None:
        for coding in response.headers.get("Content-Encoding", "").split(","):
            if coding.strip().lower() in _CONTENT_CODINGS:
                raise self._make_error(f"it is sent in the encoding {coding.strip()!r}, so it cannot be verified")
        if self.metadata.length is not None and self.metadata.length > MAX_LENGTH_BYTES:
            raise self._make_error(f"its server announces {self.metadata.length} bytes, more than any storage accepts")
        if self.metadata.content_type == "text/html":
            raise self._make_error("its server sends a web page instead")
        if not self.metadata.is_verifiable:
            raise self._make_error("it is sent with neither a length nor a checksum, so it cannot be verified")

    def _has_attempts_left(self) -> bool:
        return (
            self._attempts_without_progress < MAX_ATTEMPTS_WITHOUT_PROGRESS
            and self._restarts <= MAX_RESTARTS
            and self._attempts < MAX_ATTEMPTS
        )

    def _prepare_retry(self, error: Exception) -> None:
        """Log the error, and discard bytes that cannot be resumed."""
        self.log.warning(
            "Downloading the audio of %s failed, will retry: %s (%s)", self.subject, error, self._format_received()
        )
        is_incomplete = self.received < (self.metadata.length or 0)
        if self.received and not (self.metadata.can_resume and is_incomplete):
            self._restart()

    def _restart(self) -> None:
        self._restarts += self.received > 0
        self.received = self.crc64 = 0
        self.metadata = AudioMetadata()

    def _format_received(self) -> str:
        return f"{self.received} of {self.metadata.length or 'an unknown number of'} bytes arrived"

    def _make_error(self, problem: str) -> AudioTransferError:
        return AudioTransferError(
            f"The audio of {self.subject} could not be downloaded: {problem}. Nothing was stored, and the destination "
            "is unchanged."
        )


class _RetryableError(Exception):
    pass
