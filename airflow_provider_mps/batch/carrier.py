"""What is done for each line of a batch: submitted, awaited and stored, or why not."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch.experience import Experience
from airflow_provider_mps.batch.line import BrokenLine
from airflow_provider_mps.batch.plan import Step, next_step
from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.submitter import NotSubmittedError
from airflow_provider_mps.errors import InvalidRequestError, MpsApiError, TextToSpeechTaskFailed
from airflow_provider_mps.own_thread import in_own_thread
from airflow_provider_mps.triggers.consequence import Consequence, consequence
from airflow_provider_mps.triggers.poller import wait_for_task

if TYPE_CHECKING:
    from airflow_provider_mps.batch.books import Books
    from airflow_provider_mps.batch.line import ManifestLine
    from airflow_provider_mps.batch.options import BatchOptions
    from airflow_provider_mps.batch.storer import Storer
    from airflow_provider_mps.batch.submitter import Submitter
    from airflow_provider_mps.speech_request import SpeechRequest

READING_TRIES = 3
READ_AHEAD = 32
"""Lines whose text is in memory."""
MAX_UNFINISHED = 10_000
"""Lines that MPS works at, or whose audio is waiting to be stored."""
_UNKNOWN = (
    "The task was killed after {sent_at}, while it submitted this line: it is unknown whether MPS accepted it, and it "
    "may be billed already. It was not submitted again. Look into MPS's console; on_unknown='resubmit' submits it anew."
)


class Carrier:
    """
    Carries the lines of one batch, many at once.

    :param options: of the batch
    :param books: where each step is written down
    :param submitter: submits
    :param storer: stores
    :param log: the task's
    """

    def __init__(self, options: BatchOptions, books: Books, submitter: Submitter, storer: Storer, log: Any) -> None:
        self._options = options
        self._books = books
        self._submitter = submitter
        self._storer = storer
        self._log = log
        self._experience = Experience()
        self._ahead = asyncio.Semaphore(READ_AHEAD)
        self._unfinished = asyncio.Semaphore(MAX_UNFINISHED)
        self._busy = 0
        self._last_event = time.monotonic()
        self.waiting: dict[str, None] = {}
        """Ids of the tasks that MPS works at, the last submitted last; kept where the waiting is broken off."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing is being done for any line."""
        return not (self.waiting or self._busy)

    def is_only_waiting(self, patience: float | None) -> bool:
        """
        Tell whether nothing else has happened for a while.

        :param patience: seconds; ``None``: for ever
        """
        return (
            patience is not None
            and bool(self.waiting)
            and self._busy == 0
            and time.monotonic() > self._last_event + patience
        )

    async def begin(self, line: ManifestLine | BrokenLine, lines: asyncio.TaskGroup) -> None:
        """
        Take a line up, as soon as there is room for it.

        :param line: of the manifest
        :param lines: where what is done for it runs
        """
        if isinstance(line, BrokenLine):
            self._books.ledger.put(Row(line.id, line.number, LineStatus.INVALID, error=line.error))
            return
        known = self._books.ledger.find(line.id)
        if known is not None and known.line is not None:
            error = f"the id {line.id!r} is the one of line {known.line} already."
            self._books.ledger.put(Row(line.id, line.number, LineStatus.INVALID, error=error))
            return
        # From here on the id is taken.
        known = replace(known, line=line.number) if known else None
        self._books.ledger.put(known or Row(line.id, line.number, LineStatus.PENDING))
        await self._ahead.acquire()
        await self._unfinished.acquire()
        self._busy += 1
        lines.create_task(self._carry(line, known))

    async def resume(self, row: Row, lines: asyncio.TaskGroup) -> None:
        """
        Take up a line of which it turns out that MPS has accepted it.

        :param row: of the line
        :param lines: where what is done for it runs
        """
        await self._unfinished.acquire()
        self._busy += 1
        lines.create_task(self._carry_accepted(row))

    async def _carry_accepted(self, row: Row) -> None:
        try:
            await self._finish(row, submitted_now=False)
        finally:
            self._end_line()

    def _end_line(self) -> None:
        self._busy -= 1
        self._last_event = time.monotonic()
        self._unfinished.release()

    async def _carry(self, line: ManifestLine, known: Row | None) -> None:
        """Do for one line whatever is left to do."""
        try:
            try:
                row = await self._submitted(line, known)
            finally:
                self._ahead.release()
            if row is not None:
                await self._finish(row, submitted_now=row is not known)
        except NotSubmittedError:
            pass  # the line is pending, and the reason is told once
        finally:
            self._end_line()

    async def _submitted(self, line: ManifestLine, known: Row | None) -> Row | None:
        """Return the row of a line that MPS has accepted, now or earlier; ``None`` where there is none to wait for."""
        options = self._options
        try:
            request = await self._request(line)
        except AirflowException as error:
            # What was accepted earlier, for another text, is not lost.
            row = Row(line.id, line.number, LineStatus.INVALID, error=str(error))
            if known is not None:
                self._books.ledger.put(replace(known, line=None))
            else:
                self._books.ledger.remove(line.id)
            self._books.ledger.put(row)
            return None
        fingerprint = request.fingerprint(options.mps_conn_id, options.region)
        match next_step(known, fingerprint, options.on_unknown):
            case Step.KEEP:
                return None
            case Step.WAIT:
                return known
            case Step.CALL_UNKNOWN:
                assert known is not None  # noqa: S101 - or it would be submitted
                await self._books.record(known.now(LineStatus.UNKNOWN, error=_UNKNOWN.format(sent_at=known.sent_at)))
                return None
        if known is not None and known.status in {LineStatus.PROCESSING, LineStatus.UNSTORED}:
            self._log.warning(
                "Line %s has changed and is submitted anew; task %s of its earlier text goes on", line.id, known.task_id
            )
        row = Row(line.id, line.number, LineStatus.PENDING, characters=len(request.text), request=fingerprint)
        row = await self._submitter.submit(request, row)
        return row if row.status is LineStatus.PROCESSING else None

    async def _request(self, line: ManifestLine) -> SpeechRequest:
        defaults, manifest = self._options.defaults, self._options.manifest
        if "text_path" not in line.fields:
            return line.request(defaults, manifest)
        for _ in range(READING_TRIES - 1):
            try:
                return await in_own_thread(lambda: line.request(defaults, manifest))
            except InvalidRequestError:
                raise
            except AirflowException as error:
                self._log.warning("Line %s: %s", line.id, error)
                await asyncio.sleep(1)
        return await in_own_thread(lambda: line.request(defaults, manifest))

    async def _finish(self, row: Row, *, submitted_now: bool) -> None:
        """Wait for a line that MPS has accepted, and store its audio."""
        task_id = str(row.task_id)
        started = time.monotonic()
        self.waiting[task_id] = None
        self._busy -= 1
        try:
            interval = self._options.interval
            first_poll_in = self._experience.first_question_after(interval.seconds) if submitted_now else 0.0
            try:
                task = await wait_for_task(
                    task_id, interval, self._options.mps_conn_id, self._options.region, first_poll_in
                )
                task.is_ready()
            except TextToSpeechTaskFailed as error:
                await self._books.record(row.now(LineStatus.FAILED, error=str(error)))
                return
            except MpsApiError as error:
                if consequence(error.code) is not Consequence.END:
                    raise  # nobody can be waited for
                await self._books.record(row.now(LineStatus.FAILED, error=str(error)))
                return
        finally:
            self._busy += 1
            if asyncio.current_task().cancelling() == 0:  # type: ignore[union-attr]
                self.waiting.pop(task_id, None)
        if submitted_now:
            self._experience.took(time.monotonic() - started)
        await self._books.record(await self._storer.store(row, task))
