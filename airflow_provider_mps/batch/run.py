"""Run one batch: read its manifest, process its lines concurrently, report progress, and write the results."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch.lease import Lease
from airflow_provider_mps.batch.line_processor import LineProcessor
from airflow_provider_mps.batch.manifest import read_manifest
from airflow_provider_mps.batch.plan import validate_character_limit
from airflow_provider_mps.batch.results import Results
from airflow_provider_mps.batch.row import LineStatus
from airflow_provider_mps.batch.spending import CharacterBudget
from airflow_provider_mps.batch.state import BatchState
from airflow_provider_mps.batch.storer import Storer
from airflow_provider_mps.batch.submitter import NotSubmittedError, Submitter
from airflow_provider_mps.batch.voices import VoiceLookup
from airflow_provider_mps.concurrency import run_in_daemon_thread
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.metrics import Metrics
from airflow_provider_mps.polling.poller import wait_for_task
from airflow_provider_mps.redaction import describe_error, hide_signed_urls_in_logs
from airflow_provider_mps.storage.destination import get_filesystem

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_mps.batch.line import BatchOptions
    from airflow_provider_mps.batch.lock_holder import LockHolder
    from airflow_provider_mps.batch.summary import Summary
    from airflow_provider_mps.speech.task import MpsTask

MANIFEST_CHUNK_LINES = 64
REPORT_INTERVAL_SECONDS = 30.0
"""Shortest time between two progress reports, each of which writes the result manifest."""
REPORT_INTERVAL_FACTOR = 20
"""Shortest time between two reports, as a multiple of the time that writing the result manifest took."""
SHUTDOWN_GRACE_SECONDS = 60.0
"""
Longest wait for the responses to submits in flight when a batch ends.

Airflow 3 kills a task five seconds after SIGTERM if a user or the scheduler has ended it, and waits if only its worker
shuts down. Airflow 2 kills it after ``[core] killed_task_cleanup_time``, 60 seconds.
"""
INTERIM_RESULTS_SECONDS = 2.0
"""Time after which the results are written although responses are missing: Airflow may kill the task soon."""


@dataclass(frozen=True)
class BatchOutcome:
    """How a batch ended, or paused."""

    summary: Summary
    waiting_task_ids: list[str] = field(default_factory=list)
    """Ids of the tasks to wait for, the last submitted last; empty if all lines have ended."""
    submitted_characters: int = 0
    """Characters that this run has submitted, also before it deferred."""


class Batch:
    """
    One run of a batch, in an event loop.

    :param report_progress: called in a thread with the progress, as a Markdown table
    :param operator: class of the operator, for the metrics
    """

    def __init__(
        self,
        options: BatchOptions,
        holder: LockHolder,
        report_progress: Callable[[str], None],
        log: Any,
        operator: str = "TextToSpeechBatchOperator",
    ) -> None:
        self._options = options
        self._holder = holder
        self._report_progress = report_progress
        self._log = log
        self._hook = MpsHook(options.mps_conn_id, options.region)
        self._hook.metrics = Metrics(options.mps_conn_id, operator)
        self._is_released = False  # the lock, after the results were saved

    async def run(self) -> BatchOutcome:
        """
        Process all remaining lines; return early if only waiting is left and may be deferred.

        :raises DestinationLockedError: when another batch works in the destination
        :raises AirflowException: when the batch could not be finished; a retry resumes it
        """
        hide_signed_urls_in_logs()
        destination = self._options.destination
        await run_in_daemon_thread(lambda: get_filesystem(destination))
        lease = Lease(Results(destination).lock_path, self._holder, self._log)
        await lease.acquire()
        self._state = BatchState(self._options, self._holder, self._log, lease.ensure_held)
        self._state.row_store.price = self._options.price_per_1000_characters
        self._budget = CharacterBudget(self._options.max_total_characters, self._options.submitted_characters)
        self._submitter = Submitter(
            self._hook, self._state, lease.ensure_held, self._options.on_unknown, self._log, self._budget
        )
        self._storer = Storer(destination, self._query_task, self._options.transfer_timeout, self._log)
        self._line_processor = LineProcessor(
            self._options,
            self._state,
            VoiceLookup(self._hook),
            self._submitter,
            self._storer,
            self._log,
            self._hook.metrics,
        )
        heartbeat = asyncio.create_task(lease.heartbeat())
        is_deferred = is_finished = False
        try:
            await self._process_lines(heartbeat)
            self._validate_all_submitted()
            is_deferred = bool(self._line_processor.waiting_task_ids)
            is_finished = not is_deferred
            if removed := self._state.row_store.count_orphans():
                self._log.warning(
                    "%s lines that MPS has accepted earlier are not in this manifest, and their audio was not stored. "
                    "%s lists their TaskIds without a line number",
                    removed,
                    destination / "results.jsonl",
                )
            waiting_task_ids = list(self._line_processor.waiting_task_ids)
            return BatchOutcome(self._state.row_store.summarize(), waiting_task_ids, self._budget.used)
        finally:
            closing = asyncio.create_task(self._close(lease, heartbeat, finished=is_finished, deferred=is_deferred))
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                if is_finished and self._is_released:
                    closing.cancel()  # only the removal of the log is left, so the batch has succeeded
                    await asyncio.wait([closing])
                else:
                    # Airflow ends the task meanwhile: the outcome of what was sent must still be recorded.
                    await asyncio.wait([closing])
                    raise

    async def _process_lines(self, heartbeat: asyncio.Task[NoReturn]) -> None:
        async def wait_for_heartbeat_error() -> None:
            await asyncio.shield(heartbeat)

        try:
            async with asyncio.TaskGroup() as group:
                background = [group.create_task(wait_for_heartbeat_error())]
                await self._state.restore(
                    lambda: validate_character_limit(self._options, self._state.row_store, self._log)
                )
                background.append(group.create_task(self._report_periodically()))
                try:
                    await self._process_manifest(group)
                except asyncio.CancelledError:
                    # Stop at once: the group waits for the lines that are being stored.
                    self._stop_all()
                    raise
                for task in background:
                    task.cancel()
        except BaseExceptionGroup as errors:
            error: BaseException | None = errors.split(_DeferError)[1]
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            if error is not None:
                raise error from errors
            self._log.info("Deferring; the triggerer waits for %s lines", len(self._line_processor.waiting_task_ids))

    async def _process_manifest(self, group: asyncio.TaskGroup) -> None:
        await self._read_manifest(group)
        while True:
            while not self._line_processor.has_ended:
                if self._line_processor.is_only_waiting(self._options.defer_after):
                    raise _DeferError
                await asyncio.sleep(0.1)
            if not self._state.row_store.summarize().count(LineStatus.UNKNOWN):
                return
            accepted = await self._state.merge_late_rows()
            if not accepted:
                return
            for row in accepted:
                self._log.info("The outcome of line %s is known now: MPS accepted it as task %s", row.id, row.task_id)
                await self._line_processor.resume(row, group)

    async def _read_manifest(self, group: asyncio.TaskGroup) -> None:
        options = self._options
        lines = read_manifest(options.manifest, options.subtitle_encoding, self._state.report_subtitles)
        while self._submitter.stop_reason is None:
            chunk = await run_in_daemon_thread(lambda: list(itertools.islice(lines, MANIFEST_CHUNK_LINES)))
            if not chunk:
                return
            for line in chunk:
                if self._submitter.stop_reason is None:
                    await self._line_processor.begin(line, group)

    async def _query_task(self, task_id: str) -> MpsTask:
        """Query a finished task again, before the lines that wait, within the same rate limit."""
        options, operator = self._options, self._hook.metrics.operator
        return await wait_for_task(task_id, options.interval, options.mps_conn_id, options.region, operator=operator)

    def _validate_all_submitted(self) -> None:
        pending = self._state.row_store.summarize().count(LineStatus.PENDING)
        if self._submitter.stop_reason is not None:
            self._log.error("At least %s lines were not submitted; a retry or a clear submits them", pending)
            raise self._submitter.stop_reason
        if pending:
            raise AirflowException(
                f"{pending} lines were not submitted: their outcome was unknown until an earlier run recorded that MPS "
                "had not accepted them. A retry or a clear submits them."
            )

    async def _report_periodically(self) -> None:
        delay = REPORT_INTERVAL_SECONDS
        while True:
            await asyncio.sleep(delay)
            summary = self._state.row_store.summarize()
            self._log.info("%s; throttled submits: %s", summary.to_line(), self._submitter.throttled)
            with suppress(Exception):  # a table that is not shown must not stop the batch
                await run_in_daemon_thread(lambda: self._report_progress(summary.to_markdown()))  # noqa: B023
            started = time.monotonic()
            is_saved = await self._save_interim_results()
            delay = max(REPORT_INTERVAL_SECONDS, REPORT_INTERVAL_FACTOR * (time.monotonic() - started))
            if is_saved:
                with suppress(AirflowException):  # the heartbeat reports a lost lease
                    await self._state.remove_log()

    async def _save_interim_results(self) -> bool:
        try:
            await self._state.save_results(finished=False)
        except AirflowException as error:  # the write-ahead log keeps what it has
            self._log.warning("Writing the result manifest failed, will retry: %s", error)
            return False
        return True

    async def _close(self, lease: Lease, heartbeat: asyncio.Task[NoReturn], *, finished: bool, deferred: bool) -> None:
        """Record the outcome of all submits in flight, write the results, and release the lock or mark it deferred."""
        try:
            self._stop_all()
            settling = asyncio.create_task(self._submitter.settle(SHUTDOWN_GRACE_SECONDS))
            done, _ = await asyncio.wait([settling], timeout=INTERIM_RESULTS_SECONDS)
            if not done and not lease.is_lost:
                await self._save_interim_results()
            await settling
            await self._state.flush()
            await self._hook.aclose()
            if lease.is_lost:
                return
            try:
                await self._state.save_results(finished=finished)
            except AirflowException as error:
                self._log.error("Writing the result manifest failed; a retry reads the write-ahead log: %s", error)
                if finished:
                    raise
            finally:
                heartbeat.cancel()
                await asyncio.wait([heartbeat])
                with suppress(AirflowException):
                    is_own = await (lease.mark_deferred() if deferred else lease.release())
                    # Last, because nothing waits for the removal: the next batch ignores what is left.
                    if is_own:
                        self._is_released = True
                        await self._remove_log()
        finally:
            heartbeat.cancel()

    async def _remove_log(self) -> None:
        try:
            await self._state.remove_log(check_lease=False)
        except asyncio.CancelledError:
            self._log.warning("Removing the write-ahead log was interrupted; the next batch removes it")
            raise
        except Exception as error:  # noqa: BLE001 - the batch has ended, and the next one removes the log
            self._log.warning(
                "Removing the write-ahead log failed; the next batch removes it: %s", describe_error(error)
            )

    def _stop_all(self) -> None:
        self._submitter.stop(NotSubmittedError())
        self._storer.stop()


class _DeferError(Exception):
    """Only waiting is left, which is deferred to the triggerer."""
