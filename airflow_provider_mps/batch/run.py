"""One batch from its start to its end: lines are read and carried side by side, reported, and written down."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch.books import Books
from airflow_provider_mps.batch.carrier import Carrier
from airflow_provider_mps.batch.lease import Lease
from airflow_provider_mps.batch.manifest import read_manifest
from airflow_provider_mps.batch.results import Results
from airflow_provider_mps.batch.row import LineStatus
from airflow_provider_mps.batch.storer import Storer
from airflow_provider_mps.batch.submitter import NotSubmittedError, Submitter
from airflow_provider_mps.destination import filesystem_of
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.own_thread import in_own_thread
from airflow_provider_mps.redaction import keep_links_out_of_logs
from airflow_provider_mps.triggers.poller import wait_for_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_mps.batch.lease import Holder
    from airflow_provider_mps.batch.options import BatchOptions
    from airflow_provider_mps.batch.summary import Summary
    from airflow_provider_mps.text_to_speech import TextToSpeechTask

READ_AT_ONCE = 64
"""Lines that are handed over at once by the thread that reads the manifest."""
TELL_EVERY = 30.0
"""Seconds between two reports, and two writings of the result manifest at least."""
WRITING_SHARE = 20
"""Times as long as writing the result manifest took that is worked before it is written again."""
SHUTDOWN_GRACE_SECONDS = 60.0
"""
Seconds that a batch may take to end, most of them for the responses to what it has sent.

Airflow 3 kills a task five seconds after SIGTERM where a user or the scheduler has ended it, and lets it end by itself
where only its worker shuts down; Airflow 2 kills it after ``[core] killed_task_cleanup_time``, 60 seconds.
"""
INTERIM_RESULTS_SECONDS = 2.0
"""Seconds after which the results are written although responses are missing: Airflow may kill the task soon."""


@dataclass(frozen=True)
class BatchEnd:
    """How a batch ended, or paused."""

    summary: Summary
    lock_path: str
    """Of the lock that is kept while the rest is waited for."""
    waiting: list[str] = field(default_factory=list)
    """Task ids that are all that is left to wait for, the last submitted last; empty where all lines have ended."""


class Batch:
    """
    Runs once, in an event loop.

    :param options: what to do
    :param holder: whose task it is
    :param tell: called in a thread now and then with a table for people
    :param log: the task's
    """

    def __init__(self, options: BatchOptions, holder: Holder, tell: Callable[[str], None], log: Any) -> None:
        self._options = options
        self._holder = holder
        self._tell = tell
        self._log = log
        self._hook = MpsHook(options.mps_conn_id, options.region)

    async def run(self) -> BatchEnd:
        """
        Do everything that is left to do.

        :raises DestinationTakenError: when another batch is at work in the destination
        :raises AirflowException: when it could not be done to its end; a retry goes on
        """
        keep_links_out_of_logs()
        await in_own_thread(lambda: filesystem_of(self._options.destination))
        lock_path = Results(self._options.destination).lock_path
        lease = Lease(lock_path, self._holder, self._log)
        await lease.take()
        self._books = Books(self._options, self._holder, self._stop_submitting, self._log, lease.held)
        self._submitter = Submitter(self._hook, self._books, lease.held, self._options.on_unknown, self._log)
        self._storer = Storer(self._options.destination, self._ask, self._options.transfer_timeout, self._log)
        self._carrier = Carrier(self._options, self._books, self._submitter, self._storer, self._log)
        keeping = asyncio.create_task(lease.keep())
        paused = finished = False
        try:
            await self._work(keeping)
            self._require_everything_submitted()
            paused = bool(self._carrier.waiting)
            finished = not paused
            self._tell_of_what_is_left_over()
            return BatchEnd(self._books.summary(), str(lock_path), list(self._carrier.waiting))
        finally:
            clearing = asyncio.create_task(self._clear_up(lease, keeping, finished=finished, paused=paused))
            try:
                await asyncio.shield(clearing)
            except asyncio.CancelledError:
                # Airflow ends the task meanwhile: what was sent must still be written down.
                await asyncio.wait([clearing])
                raise

    async def _work(self, keeping: asyncio.Task[NoReturn]) -> None:
        """Carry all lines as far as they get."""

        async def watch() -> None:
            await asyncio.shield(keeping)

        try:
            async with asyncio.TaskGroup() as lines:
                # What only watches ends with the lines, or ends them.
                watching = lines.create_task(watch())
                await self._books.recall()
                reporting = lines.create_task(self._report())
                try:
                    await self._carry_all(lines)
                except asyncio.CancelledError:
                    # At once: what ends the lines waits for those that are being stored.
                    self._stop_all()
                    raise
                watching.cancel()
                reporting.cancel()
        except BaseExceptionGroup as errors:
            _, others = errors.split(_HandOverError)
            if others:
                raise _first(others) from errors
            left = len(self._carrier.waiting)
            self._log.info("%s lines are left to wait for, which the triggerer does from now on", left)

    async def _carry_all(self, lines: asyncio.TaskGroup) -> None:
        await self._read(lines)
        while True:
            while not self._carrier.has_ended:
                if self._carrier.is_only_waiting(self._options.hand_over_after):
                    raise _HandOverError
                await asyncio.sleep(0.1)
            if not self._books.summary().count(LineStatus.UNKNOWN):
                return
            accepted = await self._books.adopt_late()
            if not accepted:
                return
            for row in accepted:
                self._log.info("Line %s is known after all: MPS accepted it as task %s", row.id, row.task_id)
                await self._carrier.resume(row, lines)

    async def _read(self, lines: asyncio.TaskGroup) -> None:
        manifest = read_manifest(self._options.manifest)
        while self._submitter.stopped is None:
            chunk = await in_own_thread(lambda: list(itertools.islice(manifest, READ_AT_ONCE)))
            if not chunk:
                return
            for line in chunk:
                if self._submitter.stopped is None:
                    await self._carrier.begin(line, lines)

    async def _ask(self, task_id: str) -> TextToSpeechTask:
        """Ask anew, within the same budget as all questions."""
        return await wait_for_task(task_id, self._options.interval, self._options.mps_conn_id, self._options.region)

    def _stop_submitting(self, reason: AirflowException) -> None:
        self._submitter.stop(reason)

    def _require_everything_submitted(self) -> None:
        left = self._books.summary().count(LineStatus.PENDING)
        if self._submitter.stopped is None:
            if left:
                raise AirflowException(
                    f"{left} lines were not submitted: the outcome of their submits was unknown until an earlier run "
                    "wrote down that MPS had not accepted them. A retry, or a clear, submits them."
                )
            return
        self._log.error("%s lines and more were not submitted; a retry, or a clear, goes on with them", left)
        raise self._submitter.stopped

    def _tell_of_what_is_left_over(self) -> None:
        if left := self._books.ledger.left_over():
            self._log.warning(
                "%s lines that MPS has accepted earlier are not in this manifest: their audio was not stored. Their "
                "TaskIds are in %s, without a line",
                left,
                self._options.destination / "results.jsonl",
            )

    async def _report(self) -> None:
        """Tell now and then how far it is, and write the result manifest."""
        pause = TELL_EVERY
        while True:
            await asyncio.sleep(pause)
            summary = self._books.summary()
            self._log.info("%s; throttled answers: %s", summary.to_line(), self._submitter.throttled)
            await self._show(summary)
            started = time.monotonic()
            try:
                # Shielded: two at once would leave what the slower one has written.
                await asyncio.shield(asyncio.create_task(self._books.write_results(finished=False)))
            except AirflowException as error:  # the journal has everything
                self._log.warning("The result manifest could not be written this time: %s", error)
            pause = max(TELL_EVERY, WRITING_SHARE * (time.monotonic() - started))

    async def _show(self, summary: Summary) -> None:
        with suppress(Exception):  # a table that is not shown stops nothing
            await in_own_thread(lambda: self._tell(summary.to_markdown()))

    async def _clear_up(self, lease: Lease, keeping: asyncio.Task[NoReturn], *, finished: bool, paused: bool) -> None:
        """Let nothing be lost: what was sent is waited for, and written down."""
        try:
            self._stop_all()
            await self._settle_submits(lease)
            await self._books.settle()
            await self._hook.aclose()
            if lease.lost:
                return
            try:
                await self._books.close(finished=finished)
            except AirflowException as error:
                self._log.error("The result manifest could not be written; its journal has the rest: %s", error)
                if finished:
                    raise
            finally:
                keeping.cancel()
                await asyncio.wait([keeping])
                with suppress(AirflowException):
                    await (lease.park() if paused else lease.release())
        finally:
            keeping.cancel()
            self._books.ledger.close()

    def _stop_all(self) -> None:
        self._submitter.stop(NotSubmittedError())
        self._storer.stop()

    async def _settle_submits(self, lease: Lease) -> None:
        """Wait until the outcome of what was sent is written down; write the results meanwhile if it takes long."""
        settling = asyncio.create_task(self._submitter.settle(SHUTDOWN_GRACE_SECONDS))
        done, _ = await asyncio.wait([settling], timeout=INTERIM_RESULTS_SECONDS)
        if not done and not lease.lost:
            try:
                await self._books.write_results(finished=False, keep_room=False)
            except AirflowException as error:  # the journal has everything
                self._log.warning("The result manifest could not be written yet: %s", error)
        await settling


class _HandOverError(Exception):
    """Only waiting is left."""


def _first(error: BaseException) -> BaseException:
    """Return one of many that came together."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
