"""Process the lines of a batch concurrently: decide, submit, wait, store, and record each result."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch.line import InvalidLine
from airflow_provider_mps.batch.row import LineStatus, Row, make_duplicate_row
from airflow_provider_mps.batch.submitter import UNKNOWN_LINE_ADVICE, NotSubmittedError
from airflow_provider_mps.batch.voices import use_earlier_voice
from airflow_provider_mps.concurrency import run_in_daemon_thread
from airflow_provider_mps.error_codes import PollErrorAction, get_poll_error_action
from airflow_provider_mps.exceptions import InvalidRequestError, MpsApiError, TextToSpeechTaskFailed
from airflow_provider_mps.polling.poller import wait_for_task
from airflow_provider_mps.speech.parsing import OnUnknown
from airflow_provider_mps.speech.request import hash_text

if TYPE_CHECKING:
    from airflow_provider_mps.batch.line import BatchOptions, ManifestLine
    from airflow_provider_mps.batch.state import BatchState
    from airflow_provider_mps.batch.storer import Storer
    from airflow_provider_mps.batch.submitter import Submitter
    from airflow_provider_mps.batch.voices import VoiceLookup
    from airflow_provider_mps.metrics import Metrics
    from airflow_provider_mps.speech.request import SpeechRequest


MAX_READ_ATTEMPTS = 3
MAX_UNSUBMITTED_LINES = 32
"""Limit of lines that are being read or submitted at once."""
MAX_UNFINISHED_LINES = 10_000
"""Limit of lines in progress at once, from reading the text to storing the audio."""
_UNKNOWN = (
    "The task was killed after {sent_at}, while it submitted this line. It is unknown whether MPS accepted it: it may "
    f"already be billed, and was not submitted again. {UNKNOWN_LINE_ADVICE}"
)


class LineProcessor:
    """Process the lines of one batch."""

    def __init__(  # noqa: PLR0917 - the parts of a batch
        self,
        options: BatchOptions,
        state: BatchState,
        voices: VoiceLookup,
        submitter: Submitter,
        storer: Storer,
        log: Any,
        metrics: Metrics,
    ) -> None:
        self._options = options
        self._state = state
        self._voices = voices
        self._submitter = submitter
        self._storer = storer
        self._log = log
        self._metrics = metrics
        self._unsubmitted = asyncio.Semaphore(MAX_UNSUBMITTED_LINES)
        self._unfinished = asyncio.Semaphore(MAX_UNFINISHED_LINES)
        self._busy_lines = 0
        """Lines that are being read, submitted or stored."""
        self._last_event = time.monotonic()
        self.waiting_task_ids: dict[str, None] = {}
        """Ids of the tasks that MPS processes, the last submitted last; kept when the wait is cancelled."""

    @property
    def has_ended(self) -> bool:
        """Whether no line is being processed."""
        return not (self.waiting_task_ids or self._busy_lines)

    def is_only_waiting(self, min_seconds: float | None) -> bool:
        """Return whether nothing but waiting for MPS has happened for so many seconds; ``None`` for never."""
        return (
            min_seconds is not None
            and bool(self.waiting_task_ids)
            and self._busy_lines == 0
            and time.monotonic() > self._last_event + min_seconds
        )

    async def begin(self, line: ManifestLine | InvalidLine, group: asyncio.TaskGroup) -> None:
        """Start to process a line of the manifest, as soon as there is capacity."""
        if isinstance(line, InvalidLine):
            self._state.row_store.put(Row(None, line.number, LineStatus.INVALID, error=line.error))
            return
        known = self._state.row_store.find(line.id)
        if duplicate := make_duplicate_row(line.id, line.number, known):
            self._state.row_store.put(duplicate)
            return
        # Recorded first, so that a later line with the same id is a duplicate.
        known = replace(known, line=line.number, start=line.start, end=line.end) if known else None
        self._state.row_store.put(
            known or Row(line.id, line.number, LineStatus.PENDING, start=line.start, end=line.end)
        )
        await self._unsubmitted.acquire()
        await self.resume(known, group, line)

    async def resume(self, known: Row | None, group: asyncio.TaskGroup, line: ManifestLine | None = None) -> None:
        """Start to process a line; without ``line``, wait for and store one that MPS has already accepted."""
        if line is None:
            self._metrics.count_reconnect()
        await self._unfinished.acquire()
        self._busy_lines += 1
        group.create_task(self._process(line, known))

    async def _process(self, line: ManifestLine | None, known: Row | None) -> None:
        row = known
        try:
            if line is not None:
                try:
                    row = await self._get_accepted_row(line, known)
                finally:
                    self._unsubmitted.release()
                    line = None  # thousands of lines wait, and their texts need memory
            if row is not None:
                await self._finish(row, is_new=row is not known)
        except NotSubmittedError:
            pass  # the line stays pending; the batch reports the reason once
        finally:
            self._busy_lines -= 1
            self._last_event = time.monotonic()
            self._unfinished.release()

    async def _get_accepted_row(self, line: ManifestLine, known: Row | None) -> Row | None:
        """Return the row of a line that MPS accepted now or earlier; ``None`` if there is nothing to wait for."""
        options, row_store = self._options, self._state.row_store
        try:
            request = await self._find_voice(await self._make_request(line), known)
        except AirflowException as error:
            if known is not None:
                row_store.put(replace(known, line=None))  # keeps the task of its earlier text
            else:
                row_store.remove(line.id)
            row_store.put(
                Row(line.id, line.number, LineStatus.INVALID, error=str(error), start=line.start, end=line.end)
            )
            return None
        fingerprint = self._fingerprint(request)
        if known is not None and known.status is LineStatus.SUBMITTING:
            self._metrics.count_unknown()  # the task that submitted it was killed, and could not
        match decide_line_action(known, fingerprint, options.on_unknown):
            case LineAction.KEEP:
                return None
            case LineAction.WAIT:
                if not options.keep_voices:  # which an attempt does that has deferred
                    self._metrics.count_reconnect()
                return known
            case LineAction.MARK_UNKNOWN:
                assert known is not None  # noqa: S101 - a line without a row is submitted
                await self._state.record(
                    known.with_status(LineStatus.UNKNOWN, error=_UNKNOWN.format(sent_at=known.sent_at))
                )
                return None
        if known is not None and known.status in {LineStatus.PROCESSING, LineStatus.STORE_FAILED}:
            self._log.warning(
                "Line %s has changed, resubmitting it; task %s of its earlier text is ignored",
                line.id,
                known.task_id,
            )
        row = Row(
            line.id,
            line.number,
            LineStatus.PENDING,
            voice_id=request.voice_id if request.voice_name else None,
            characters=len(request.text),
            request=fingerprint,
            start=line.start,
            end=line.end,
            text_hash=hash_text(request.text),
        )
        row = await self._submitter.submit(request, row)
        return row if row.status is LineStatus.PROCESSING else None

    async def _make_request(self, line: ManifestLine) -> SpeechRequest:
        def make() -> SpeechRequest:
            return line.make_request(self._options.defaults, self._options.manifest)

        if "text_path" not in line.fields:
            return make()
        attempt = 1
        while True:
            try:
                return await run_in_daemon_thread(make)
            except AirflowException as error:
                if isinstance(error, InvalidRequestError) or attempt == MAX_READ_ATTEMPTS:
                    raise
                self._log.warning("Reading the text of line %s failed, will retry: %s", line.id, error)
            attempt += 1
            await asyncio.sleep(1)

    async def _find_voice(self, request: SpeechRequest, known: Row | None) -> SpeechRequest:
        """
        Return the request with the VoiceId of its ``voice_name``, if it has one.

        :raises InvalidRequestError: if no voice or several have the name, and the line would have to be submitted
        :raises NotSubmittedError: if the look-up failed, which stops the batch
        """
        if request.voice_name is None:
            return request
        earlier = use_earlier_voice(request, known)
        can_keep = (
            earlier is not None
            and decide_line_action(known, self._fingerprint(earlier), self._options.on_unknown) is not LineAction.SUBMIT
        )
        if earlier is not None and can_keep and self._options.keep_voices:
            return earlier
        try:
            return replace(request, voice_id=await self._voices.find_voice_id(request.voice_name))
        except InvalidRequestError:
            # The voice may have been deleted after MPS had accepted the line: its audio is billed, and still stored.
            if earlier is None or not can_keep:
                raise
            return earlier
        except Exception as error:
            self._submitter.stop(error)
            raise NotSubmittedError from error

    def _fingerprint(self, request: SpeechRequest) -> str:
        return request.fingerprint(self._options.mps_conn_id, self._options.region)

    async def _finish(self, row: Row, *, is_new: bool) -> None:
        task_id = str(row.task_id)
        self.waiting_task_ids[task_id] = None
        self._busy_lines -= 1
        try:
            options = self._options
            delay = options.interval.seconds if is_new else 0.0
            task = await wait_for_task(
                task_id,
                options.interval,
                options.mps_conn_id,
                options.region,
                delay,
                oldest_first=True,
                operator=self._metrics.operator,
            )
            task.raise_for_status()
        except (TextToSpeechTaskFailed, MpsApiError) as error:
            if isinstance(error, MpsApiError) and get_poll_error_action(error.code) is not PollErrorAction.FAIL:
                raise  # it concerns all lines
            await self._state.record(row.with_status(LineStatus.FAILED, error=str(error)))
            return
        finally:
            self._busy_lines += 1
            if asyncio.current_task().cancelling() == 0:  # type: ignore[union-attr]
                self.waiting_task_ids.pop(task_id, None)
        stored = await self._storer.store(row, task)
        if stored.status is LineStatus.STORED:
            self._metrics.count_stored(stored.size or 0, stored.duration)
        await self._state.record(stored)


class LineAction(Enum):
    """What to do with a line."""

    SUBMIT = auto()
    WAIT = auto()
    """MPS accepted the line: wait for it, and store its audio."""
    KEEP = auto()
    """The line has ended, or nothing can be done."""
    MARK_UNKNOWN = auto()
    """The task was killed while it submitted the line; it is unknown whether MPS accepted it."""


def decide_line_action(known: Row | None, fingerprint: str, on_unknown: OnUnknown) -> LineAction:
    """
    Decide what to do with a line, so that no line is billed twice or lost.

    :param known: the row with the id of the line in the result manifest
    :param fingerprint: the fingerprint of the current request
    """
    if known is None or known.request != fingerprint:
        return LineAction.SUBMIT
    match known.status:
        case LineStatus.STORED | LineStatus.FAILED | LineStatus.REJECTED:
            return LineAction.KEEP
        case LineStatus.PROCESSING | LineStatus.STORE_FAILED:
            return LineAction.WAIT
        case LineStatus.UNKNOWN:
            return LineAction.SUBMIT if on_unknown is OnUnknown.RESUBMIT else LineAction.KEEP
        case LineStatus.SUBMITTING:
            return LineAction.SUBMIT if on_unknown is OnUnknown.RESUBMIT else LineAction.MARK_UNKNOWN
        case _:
            return LineAction.SUBMIT
