"""Fetch the clips of a batch in order, a few ahead, and verify each."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException
from fastcrc import crc64
from fsspec.asyn import sync

from airflow_provider_mps.batch.track.temporary_file import (
    open_temporary_file,
    translate_temporary_errors,
    write_all,
)
from airflow_provider_mps.concurrency import SIGNAL_CHECK_SECONDS, start_in_worker_thread
from airflow_provider_mps.exceptions import AudioTransferError, AudioTransferStopped
from airflow_provider_mps.storage.conditional_write import S3_PROTOCOLS
from airflow_provider_mps.storage.destination import get_filesystem
from airflow_provider_mps.storage.errors import translate_storage_errors
from airflow_provider_mps.storage.text_file import parse_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.batch.row import Row

PREFETCHED_CLIPS = 4
"""Clips that are read at the same time, or wait in temporary files."""
READ_BYTES = 1024 * 1024


class ClipReader:
    """
    Yields the audio of lines in unnamed temporary files, each verified by its size and CRC-64.

    :param rows: lines with audio
    :param timeout: seconds that reading one clip may take
    :param on_wait: called every :data:`SIGNAL_CHECK_SECONDS` while the next clip is still being read
    """

    def __init__(self, rows: Sequence[Row], timeout: float, on_wait: Callable[[], None]) -> None:
        self._rows = rows
        self._timeout = timeout
        self._on_wait = on_wait
        self._is_stopped = threading.Event()

    def __iter__(self) -> Iterator[tuple[Row, IO[bytes]]]:
        fetched: deque[_FetchedClip] = deque()
        following = 0
        try:
            for row in self._rows:
                while following < len(self._rows) and len(fetched) < PREFETCHED_CLIPS:
                    fetched.append(self._start(self._rows[following]))
                    following += 1
                yield row, fetched.popleft().wait(self._timeout, self._on_wait)
        finally:
            self._is_stopped.set()

    def _start(self, row: Row) -> _FetchedClip:
        path = parse_path(row.path or "")
        get_filesystem(path)  # may look up an Airflow connection, which a thread must not
        clip = _FetchedClip(row, path, self._is_stopped)
        start_in_worker_thread(clip.run, "mps-clip")
        return clip


class _FetchedClip:
    """A clip that a thread copies into a temporary file."""

    def __init__(self, row: Row, path: ObjectStoragePath, is_stopped: threading.Event) -> None:
        self._row = row
        self._path = path
        self._is_stopped = is_stopped
        self._size = self._crc64 = 0
        self._outcome: queue.SimpleQueue[IO[bytes] | BaseException] = queue.SimpleQueue()

    def wait(self, timeout: float, on_wait: Callable[[], None]) -> IO[bytes]:
        """
        Return the temporary file.

        :raises AudioTransferError: if the clip was not read within ``timeout`` seconds, or this time not at all
        :raises AirflowFailException: if the clip is gone or has changed
        """
        ends_at = time.monotonic() + timeout
        while True:
            with suppress(queue.Empty):
                outcome = self._outcome.get(timeout=SIGNAL_CHECK_SECONDS)
                break
            on_wait()
            if time.monotonic() > ends_at:
                raise AudioTransferError(
                    f"The clip of line {self._row.id} at {self._path} was not read within {timeout:g} seconds, so no "
                    "track was stored. Raise transfer_timeout if the clip is long or the network is slow."
                )
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def run(self) -> None:
        """Copy the clip in a thread; :meth:`wait` raises its errors."""
        try:
            self._outcome.put(self._fetch())
        except BaseException as error:  # noqa: BLE001 - raised in the waiting thread
            self._outcome.put(error)

    def _fetch(self) -> IO[bytes]:
        file = open_temporary_file()
        try:
            self._copy(file)
            self._verify()
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    def _copy(self, file: IO[bytes]) -> None:
        fs = get_filesystem(self._path)
        with translate_storage_errors(self._path, f"line {self._row.id}", action="read"):
            try:
                if self._path.protocol in S3_PROTOCOLS:
                    sync(fs.loop, self._copy_s3, fs, file)
                    return
                with fs.open(self._path.path, "rb", block_size=READ_BYTES) as source:
                    while block := source.read(READ_BYTES):
                        self._write(file, block)
            except FileNotFoundError as error:
                raise AirflowFailException(
                    f"The clip of line {self._row.id} at {self._path} is gone, so no track was stored. Set the status "
                    "of its row in results.jsonl to store_failed and run the batch again, or clear this task with "
                    "on_missing='silence', which leaves the line out."
                ) from error

    async def _copy_s3(self, fs: Any, file: IO[bytes]) -> None:
        """Read with one request and no cache; s3fs would request the size first, and read 50 MiB ahead."""
        bucket, key, _ = fs.split_path(self._path.path)
        response = await fs._call_s3("get_object", Bucket=bucket, Key=key)
        body = response["Body"]
        async with body:  # not `as`: older aiobotocore returns aiohttp's response there, which reads all at once
            while block := await body.read(READ_BYTES):
                self._write(file, block)

    def _write(self, file: IO[bytes], block: bytes) -> None:
        if self._is_stopped.is_set():
            raise AudioTransferStopped("The track was stopped.")
        self._size += len(block)
        self._crc64 = crc64.xz(block, self._crc64)
        with translate_temporary_errors():
            write_all(file, block)

    def _verify(self) -> None:
        defect = None
        if self._row.size is not None and self._size != self._row.size:
            defect = f"it has {self._size} bytes, not {self._row.size}"
        elif self._row.crc64 is not None and str(self._crc64) != self._row.crc64:
            defect = f"its CRC-64 is {self._crc64}, not {self._row.crc64}"
        if defect:
            raise AirflowFailException(
                f"The clip of line {self._row.id} at {self._path} is not the one that the batch has stored: {defect}. "
                "Another writer has replaced or damaged it, so no track was stored. Restore the file, or set the "
                "status of its row in results.jsonl to store_failed and run the batch again."
            )
