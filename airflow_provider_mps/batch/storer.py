"""Store the audio of finished lines: a few at once, in threads outside the event loop."""

from __future__ import annotations

import asyncio
import random
import re
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch.row import LineStatus
from airflow_provider_mps.concurrency import call_interruptibly, run_in_daemon_thread
from airflow_provider_mps.exceptions import AudioTransferError, AudioTransferStopped, DestinationError
from airflow_provider_mps.polling.intervals import PollInterval
from airflow_provider_mps.redaction import describe_error, get_safe_cause
from airflow_provider_mps.storage.deadline import Deadline
from airflow_provider_mps.storage.destination import get_filesystem, get_url_basename, is_local
from airflow_provider_mps.storage.errors import is_storage_full
from airflow_provider_mps.storage.transfer import store_audio

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.batch.row import Row
    from airflow_provider_mps.speech.task import MpsTask
    from airflow_provider_mps.storage.transfer import StoredAudio

MAX_CONCURRENT_TRANSFERS = 8
"""At 20 clips a second, each transfer may take 0.4 seconds."""
MAX_ATTEMPTS = 6
"""Attempts to store one line, over about half a minute."""
MAX_CONSECUTIVE_FAILURES = 10
"""Consecutive lines that could not be stored, after which the batch stops."""
STOP_TIMEOUT_SECONDS = 1.0
"""Longest wait for a stopped transfer: Airflow 3 kills a task 5 s after SIGTERM; submits in flight need half of it."""
_BACKOFF = PollInterval(1.0)


class Storer:
    """Store the audio of one batch; each line within ``timeout`` seconds."""

    def __init__(
        self,
        destination: ObjectStoragePath,
        query_task: Callable[[str], Coroutine[Any, Any, MpsTask]],
        timeout: float,
        log: Any,
    ) -> None:
        self._destination = destination
        self._query_task = query_task
        self._timeout = timeout
        self._log = log
        # Transfers that succeed are counted in the summary; logging each of 10,000 would hide everything else.
        self._transfer_log: Any = SimpleNamespace(info=log.debug, warning=log.warning)
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_TRANSFERS)
        self._stop = threading.Event()
        self._consecutive_failures = 0

    def stop(self) -> None:
        """Abort all transfers; no unfinished audio becomes visible."""
        self._stop.set()

    async def store(self, row: Row, task: MpsTask) -> Row:
        """
        Store the audio of a line, and return its row with the result.

        The timeout starts when the transfer gets its slot. It covers all attempts, the delays between them, and
        queries for a fresh URL.

        :raises DestinationError: when the disk is full, or this error was the last of too many consecutive failures
        :raises AudioTransferError: when another error was the last of so many failures; a retry may succeed
        """
        async with self._slots:
            clock = asyncio.get_running_loop().time
            ends_at = clock() + self._timeout
            subject = f"line {row.id}, task {task.task_id},"
            deadline = Deadline(self._timeout, subject, self._stop)
            for attempt in range(1, MAX_ATTEMPTS + 1):
                try:
                    path, stored = await self._transfer(row, task, subject, deadline)
                    break
                except (AudioTransferError, DestinationError) as error:
                    is_full = is_storage_full(error)
                    if is_full and is_local(self._destination):
                        # At once: the remaining space is needed to record the outcome of submits. With other
                        # destinations the worker's temporary folder is full, which concerns this line only.
                        raise DestinationError(
                            f"{error} The storage is full, so the batch was stopped. Make room and clear the task; it "
                            "resumes, and resubmits nothing that was recorded."
                        ) from error
                    is_transient = task.audio_url and not is_full and not isinstance(error, DestinationError)
                    delay = _BACKOFF.delay_after_errors(attempt, random.random())  # noqa: S311 - no secret
                    if attempt == MAX_ATTEMPTS or not is_transient or clock() + delay >= ends_at:
                        return self._make_failed_row(row, error)
                    await asyncio.sleep(delay)
                except AirflowException as error:  # of the query for a fresh URL
                    return self._make_failed_row(row, error)
        self._consecutive_failures = 0
        return row.with_status(
            LineStatus.STORED,
            path=str(path),
            voice_id=task.voice_id or row.voice_id,
            duration=task.duration,
            size=stored.size,
            crc64=None if stored.crc64 is None else str(stored.crc64),
        )

    async def _transfer(
        self, row: Row, task: MpsTask, subject: str, deadline: Deadline
    ) -> tuple[ObjectStoragePath, StoredAudio]:
        """Store in a thread. If cancelled, stop, but return the audio if its commit has succeeded."""
        loop = asyncio.get_running_loop()

        def get_fresh_url() -> str:
            query = asyncio.run_coroutine_threadsafe(self._query_task(task.task_id), loop)
            try:
                return call_interruptibly(query.result, deadline.check).get_audio_url()
            finally:
                query.cancel()

        def store() -> tuple[ObjectStoragePath, StoredAudio]:
            url = task.get_audio_url()
            name = f"{row.id}{get_audio_suffix(url)}"
            try:
                path = self._destination / name
            except ValueError as error:
                raise DestinationError(
                    f"{name} cannot be a file in {self._destination} ({describe_error(error)})."
                ) from get_safe_cause(error)
            get_filesystem(path)
            try:
                return path, store_audio(
                    url, path, get_fresh_url=get_fresh_url, subject=subject, log=self._transfer_log, deadline=deadline
                )
            except AudioTransferStopped as error:  # a BaseException, which must not end the thread
                raise AudioTransferError(str(error)) from error

        storing = run_in_daemon_thread(store)
        try:
            return await asyncio.shield(storing)
        except asyncio.CancelledError:
            self.stop()
            await asyncio.wait([storing], timeout=STOP_TIMEOUT_SECONDS)
            if storing.done() and storing.exception() is None:
                return storing.result()
            raise

    def _make_failed_row(self, row: Row, error: AirflowException) -> Row:
        self._consecutive_failures += 1
        if self._consecutive_failures >= MAX_CONSECUTIVE_FAILURES:
            error_class = DestinationError if isinstance(error, DestinationError) else AudioTransferError
            raise error_class(
                f"{self._consecutive_failures} consecutive lines could not be stored, so the batch was stopped. What "
                f"MPS accepted is in the result manifest, and is not submitted again. The last error: {error}"
            ) from error
        self._log.warning("Storing line %s failed: %s", row.id, error)
        return row.with_status(LineStatus.STORE_FAILED, error=str(error))


def get_audio_suffix(url: str) -> str:
    """Return the file name extension in an audio URL, e.g. ``.wav``; empty if there is no plausible one."""
    found = re.search(r"\.[A-Za-z0-9]{1,5}$", get_url_basename(url))
    return found[0].lower() if found else ""
