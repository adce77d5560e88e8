"""Store the audio of finished lines: several at once, each beside the event loop."""

from __future__ import annotations

import asyncio
import random
import re
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.audio import store_audio
from airflow_provider_mps.batch.row import LineStatus
from airflow_provider_mps.destination import filesystem_of
from airflow_provider_mps.errors import AudioTransferError, AudioTransferStopped, DestinationError
from airflow_provider_mps.intervals import PollInterval
from airflow_provider_mps.own_thread import in_own_thread
from airflow_provider_mps.redaction import cause_of, describe_error
from airflow_provider_mps.store_errors import is_full
from airflow_provider_mps.transfer.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.audio import StoredAudio
    from airflow_provider_mps.batch.row import Row
    from airflow_provider_mps.text_to_speech import TextToSpeechTask

AT_ONCE = 8
"""Transfers: at 20 clips a second, each may take 0.4 seconds."""
TRIES = 6
"""With half a minute in all between them: whoever is away is waited for."""
MAX_FAILURES = 10
"""Lines in a row that cannot be stored before none is tried any more."""
STOP_TIMEOUT_SECONDS = 1.0
"""Airflow kills a task five seconds after SIGTERM; submits in flight need half of that."""
LOOK_SECONDS = 0.2
"""Seconds between two looks at the deadline while MPS is asked for a fresh link."""
_BETWEEN_TRIES = PollInterval(1.0)


class Storer:
    """
    Stores for one batch.

    :param destination: the folder
    :param ask: returns a finished task anew, with a fresh link
    :param timeout: seconds that storing one line may take in all
    :param log: the task's
    """

    def __init__(
        self,
        destination: ObjectStoragePath,
        ask: Callable[[str], Awaitable[TextToSpeechTask]],
        timeout: float,
        log: Any,
    ) -> None:
        self._destination = destination
        self._ask = ask
        self._timeout = timeout
        self._log = _WarningsOnly(log)
        self._free = asyncio.Semaphore(AT_ONCE)
        self._stop = threading.Event()
        self._failures = 0

    def stop(self) -> None:
        """End what is under way; nothing of it will be seen."""
        self._stop.set()

    async def store(self, row: Row, task: TextToSpeechTask) -> Row:
        """
        Store the audio of a line, and return its row: stored or not.

        ``transfer_timeout`` is the time for the line in all, from when it is its turn: every attempt, the pauses
        between them, and asking for a fresh link.

        :raises DestinationError: when so many lines in a row could not be stored that the destination is unusable
        :raises AudioTransferError: when it is the audio that could not be had for so many lines in a row; a retry may
        """
        async with self._free:
            clock = asyncio.get_running_loop().time
            ends = clock() + self._timeout
            deadline = Deadline(self._timeout, _subject_of(row, task), self._stop)
            for tries in range(1, TRIES + 1):
                try:
                    path, stored = await self._transfer(row, task, deadline)
                except (AudioTransferError, DestinationError) as error:
                    # A full disk is not tried again: what room there is then is kept for what must be written down.
                    may_pass = task.audio_url and not isinstance(error, DestinationError) and not is_full(error)
                    pause = _BETWEEN_TRIES.after_errors(tries, random.random())  # noqa: S311 - no secret
                    if tries < TRIES and may_pass and clock() + pause < ends:
                        await asyncio.sleep(pause)
                        continue
                    return self._not_stored(row, error)
                except AirflowException as error:  # of asking anew
                    return self._not_stored(row, error)
                break
        self._failures = 0
        return row.now(
            LineStatus.STORED,
            path=str(path),
            voice_id=task.voice_id,
            duration=task.duration,
            size=stored.size,
            crc64=None if stored.crc64 is None else str(stored.crc64),
        )

    async def _transfer(
        self, row: Row, task: TextToSpeechTask, deadline: Deadline
    ) -> tuple[ObjectStoragePath, StoredAudio]:
        """Store in a thread. If cancelled, stop, but return the audio if its commit has succeeded."""
        loop = asyncio.get_running_loop()
        storing = in_own_thread(lambda: self._store(row, task, deadline, loop))
        try:
            return await asyncio.shield(storing)
        except asyncio.CancelledError:
            self.stop()
            await asyncio.wait([storing], timeout=STOP_TIMEOUT_SECONDS)
            if storing.done() and storing.exception() is None:
                return storing.result()
            raise

    def _store(
        self, row: Row, task: TextToSpeechTask, deadline: Deadline, loop: asyncio.AbstractEventLoop
    ) -> tuple[ObjectStoragePath, StoredAudio]:
        def ask_anew() -> str:
            asked = asyncio.run_coroutine_threadsafe(_awaited(self._ask(task.task_id)), loop)
            while True:
                try:
                    return audio_url_of(asked.result(LOOK_SECONDS))
                except TimeoutError:
                    if asked.done():
                        raise
                    try:
                        deadline.check()
                    except BaseException:
                        asked.cancel()
                        raise

        url = audio_url_of(task)
        name = f"{row.id}{ending_of(url)}"
        try:
            path = self._destination / name
        except ValueError as error:
            raise DestinationError(
                f"{name} cannot be a file in {self._destination} ({describe_error(error)})."
            ) from cause_of(error)
        filesystem_of(path)
        try:
            stored = store_audio(
                url,
                path,
                fresh_url=ask_anew,
                subject=_subject_of(row, task),
                log=self._log,
                deadline=deadline,
            )
        except AudioTransferStopped as stopped:  # it may not end a thread
            raise AudioTransferError(str(stopped)) from stopped
        return path, stored

    def _not_stored(self, row: Row, error: AirflowException) -> Row:
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            kind = DestinationError if isinstance(error, DestinationError) else AudioTransferError
            raise kind(
                f"{self._failures} lines in a row could not be stored, so the batch was stopped; what MPS has accepted "
                f"is in the result manifest, and is not submitted again. The last one: {error}"
            ) from error
        self._log.warning("Line %s was not stored: %s", row.id, error)
        return row.now(LineStatus.UNSTORED, error=str(error))


def _subject_of(row: Row, task: TextToSpeechTask) -> str:
    return f"line {row.id}, task {task.task_id},"


def audio_url_of(task: TextToSpeechTask) -> str:
    """
    Return the link to the audio of a task that has succeeded.

    :raises AudioTransferError: when there is none
    """
    task.is_ready()
    if task.audio_url is None:
        raise AudioTransferError(
            f"MPS says that task {task.task_id} has succeeded, but gives no AudioUrl (RequestId {task.request_id}). "
            "Try again later; if this goes on, give Tencent's support the RequestId."
        )
    return task.audio_url


def ending_of(url: str) -> str:
    """Return the ending of the file's name in a link, e.g. ``.wav``; empty where there is none to be trusted."""
    name = unquote(re.split("[?#]", url, maxsplit=1)[0].rpartition("/")[2])
    found = re.search(r"\.[A-Za-z0-9]{1,5}$", name)
    return found[0].lower() if found else ""


async def _awaited(asked: Awaitable[TextToSpeechTask]) -> TextToSpeechTask:
    return await asked


class _WarningsOnly:
    """Ten thousand lines that all went well are a number in the log, not ten thousand lines."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self.info = log.debug
        self.warning = log.warning
