"""The state of a batch: each change goes to the row store and the write-ahead log, and later to the result manifest."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch.group_commit import ignore_error
from airflow_provider_mps.batch.results import Results, parse_covered_parts
from airflow_provider_mps.batch.row import LineStatus
from airflow_provider_mps.batch.row_store import RowStore
from airflow_provider_mps.batch.write_ahead_log import WriteAheadLog
from airflow_provider_mps.concurrency import run_in_daemon_thread
from airflow_provider_mps.storage.writers.spooled import RENAME_PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from airflow_provider_mps.batch.line import BatchOptions
    from airflow_provider_mps.batch.lock_holder import LockHolder
    from airflow_provider_mps.batch.row import Row
    from airflow_provider_mps.batch.subtitles import SubtitleStatistics
    from airflow_provider_mps.batch.write_ahead_log import Checkpoint


REMOVAL_TIMEOUT_SECONDS = 30.0
"""Longest time for which a batch removes its write-ahead log before it continues."""
LEASE_TIMEOUT_SECONDS = 10.0
"""How long a write of the results waits for a heartbeat while the lease is uncertain."""
_IN_DOUBT = {LineStatus.SUBMITTING, LineStatus.UNKNOWN}
_REPEATABLE = {LineStatus.STORED, LineStatus.STORE_FAILED, LineStatus.FAILED}
"""Outcomes that a retry finds again if a kill loses their row: it queries the task, and stores its audio, for free."""


class BatchState:
    """
    The state of the one batch that works in a destination.

    :param ensure_held: returns while this batch holds the lease of the destination, else raises; default: no lease
    """

    def __init__(
        self,
        options: BatchOptions,
        holder: LockHolder,
        log: Any,
        ensure_held: Callable[[], Coroutine[Any, Any, None]] = lambda: asyncio.sleep(0),
    ) -> None:
        self.row_store = RowStore()
        self._options = options
        self._holder = holder
        self._run = list(holder.instance)
        self._log = log
        self._ensure_held = ensure_held
        self._writer = holder.token[:8]
        self._results = Results(options.destination)
        self._write_ahead_log = WriteAheadLog(self._results.write_ahead_log_path, self._writer, log)
        self._subtitle_encoding: str | None = None
        self._is_restored = False  # until the row store has all earlier rows, the results must not be overwritten
        self._results_lock = asyncio.Lock()
        self._checkpoint: Checkpoint | None = None  # of the results that were saved last

    async def restore(self, validate: Callable[[], Coroutine[Any, Any, None]] = lambda: asyncio.sleep(0)) -> None:
        """
        Restore the state that earlier runs left in the destination, and write it to the result manifest.

        :param validate: awaited in between: if it raises, the results of earlier runs stay unchanged
        """
        await self.read_earlier_state()
        await validate()
        self._is_restored = True
        await self.write_results(finished=False)
        if self._options.destination.protocol in RENAME_PROTOCOLS:
            # Fail before anything is billed: some of these file systems cannot replace a file.
            await self.write_results(finished=False)

    async def read_earlier_state(self) -> None:
        """
        Restore the state that earlier runs left in the destination, without writing anything.

        :raises DestinationError: when one of its files is damaged, and billed lines would be submitted again
        """
        summary = await run_in_daemon_thread(self._results.read_summary)
        earlier = await self._write_ahead_log.read(summary.get("writer"), parse_covered_parts(summary))
        if not self._options.resume and summary.get("run") not in (None, self._run):
            self._log.warning("resume=False: ignoring the results of another run in %s", self._options.destination)
            return
        await run_in_daemon_thread(lambda: self.row_store.load(self._results.read_rows()))
        rows = self.row_store.count_ids()
        await run_in_daemon_thread(lambda: self._results.validate_rows(rows, summary))
        self.row_store.load(earlier)
        await self.merge_late_rows()
        is_retry = (
            (summary.get("run"), summary.get("max_tries")) == (self._run, self._holder.max_tries)
            # An attempt that failed permanently has no retries: only a clear can follow it.
            and not 0 < summary.get("ended", 0) < self._holder.try_number
        )
        if summary.get("finished") and not is_retry:
            # The user cleared the task, or started another run, to submit failed lines again.
            self.row_store.reset_failed()
        self.row_store.forget_line_numbers()

    async def record(self, row: Row) -> None:
        """
        Record a row, and return when it is durable, unless the step before it can be repeated.

        :raises AirflowException: when the write-ahead log cannot be written
        """
        self.row_store.put(row)
        if row.status in _REPEATABLE:
            self._write_ahead_log.write_later(row)
        else:
            await self._write_ahead_log.write(row, may_delay=row.status is not LineStatus.SUBMITTING)

    async def merge_late_rows(self) -> list[Row]:
        """
        Merge rows that another batch wrote after losing its lease: outcomes that are unknown here, and missing lines.

        :return: rows whose outcome was unknown, which MPS accepted, and whose audio is not stored
        """
        accepted: list[Row] = []
        for row in await self._write_ahead_log.read_late_rows():
            known = None if row.id is None else self.row_store.find(row.id)
            if known is None:
                self.row_store.put(replace(row, line=None))
            elif _is_resolved_by(known, row):
                resolved = replace(row, line=known.line)
                self.row_store.put(resolved)
                accepted = [other for other in accepted if other.key != row.key]
                accepted += [resolved] if row.status in {LineStatus.PROCESSING, LineStatus.STORE_FAILED} else []
            elif row.task_id is not None and row.task_id != known.task_id:
                self._log.warning(
                    "Line %s was also accepted as task %s, sent at %s by another batch; it may be billed, and its "
                    "audio is not stored",
                    row.id,
                    row.task_id,
                    row.sent_at,
                )
        return accepted

    def record_in_memory(self, row: Row) -> None:
        """Record a row in memory only, if its caller cannot wait; the next result manifest has it."""
        self.row_store.put(row)

    def report_subtitles(self, statistics: SubtitleStatistics) -> None:
        """Log what a subtitle file has; keep its encoding and the number of its empty cues for the summary."""
        self._subtitle_encoding = statistics.encoding
        self.row_store.empty_cues = statistics.empty_cues
        self._log.info(
            "The manifest is a subtitle file in %s: %s cues, of which %s are empty and skipped",
            statistics.encoding,
            statistics.cues,
            statistics.empty_cues,
        )
        if not statistics.has_own_ids:
            self._log.warning(
                "Not every cue has a number of its own, so the ids of the cues are their positions: if you add or "
                "remove a cue, the cues after it are billed again"
            )
        if statistics.encoding == "cp1252" and not self._options.subtitle_encoding:
            self._log.warning("The encoding of the manifest was guessed as cp1252; set subtitle_encoding to be sure")

    async def write_results(self, *, finished: bool) -> None:
        """Save the results as :meth:`save_results` does, then remove the write-ahead log that they replace."""
        await self.save_results(finished=finished)
        await self.remove_log()

    async def save_results(self, *, finished: bool) -> None:
        """
        Write the result manifest and the summary, which names the parts of the write-ahead log that they replace.

        :raises DestinationLockedError: when another batch has taken over; its files are unchanged
        :raises AirflowException: when they could not be written; the write-ahead log keeps what it has
        """
        saving = asyncio.create_task(self._save_results(finished=finished))
        # Shielded: a cancelled write would continue in its thread, and could overwrite a later one. The next one waits.
        try:
            await asyncio.shield(saving)
        except asyncio.CancelledError:
            saving.add_done_callback(ignore_error)
            raise

    async def _save_results(self, *, finished: bool) -> None:
        async with self._results_lock:
            if not self._is_restored:
                return
            ensure_held = self._make_lease_check()
            checkpoint = await self._write_ahead_log.make_checkpoint()
            summary = {
                **self.row_store.summarize().to_json(),
                "manifest": str(self._options.manifest),
                # A track reads the texts of its subtitles in this encoding.
                **({"subtitle_encoding": encoding} if (encoding := self._subtitle_encoding) else {}),
                "finished": finished,
                "run": self._run,
                "max_tries": self._holder.max_tries,
                "writer": self._writer,
                "write_ahead_log": checkpoint.covered,
            }

            def write() -> None:
                self._results.write_rows(self.row_store.rows(), ensure_held)
                ensure_held()
                self._results.write_summary(summary)

            await run_in_daemon_thread(write)
            self._checkpoint = checkpoint

    async def remove_log(self, *, check_lease: bool = True) -> None:
        """
        Remove the parts of the write-ahead log that the saved results cover, for :data:`REMOVAL_TIMEOUT_SECONDS`.

        :param check_lease: whether to do so only while this batch holds its lease. Not needed after the lock has been
            released or marked deferred: the next batch ignores these parts in any case.
        :raises DestinationLockedError: when another batch has taken over
        """
        if self._checkpoint is None:
            return
        ensure_held = self._make_lease_check() if check_lease else lambda: None
        removing = asyncio.create_task(self._write_ahead_log.remove_parts(self._checkpoint, ensure_held))
        try:
            done, _ = await asyncio.wait([removing], timeout=REMOVAL_TIMEOUT_SECONDS)
        finally:
            removing.cancel()
        if done:
            await removing
            return
        self._log.warning(
            "Removing the write-ahead log took longer than %g s; a later removal continues", REMOVAL_TIMEOUT_SECONDS
        )

    def _make_lease_check(self) -> Callable[[], None]:
        """Return a lease check that a thread calls just before a change: the worker may be suspended at any time."""
        loop = asyncio.get_running_loop()

        def ensure_held() -> None:
            check = asyncio.run_coroutine_threadsafe(self._ensure_held(), loop)
            try:
                check.result(LEASE_TIMEOUT_SECONDS)
            except TimeoutError:
                check.cancel()
                raise AirflowException(
                    f"The results in {self._options.destination} were not written: the lease could not be confirmed "
                    f"within {LEASE_TIMEOUT_SECONDS:g} seconds, so another batch may have taken over."
                ) from None

        return ensure_held

    async def flush(self) -> None:
        """Wait until the write-ahead log is written, and log the rows that could not be written."""
        await self._write_ahead_log.flush()
        for row in self._write_ahead_log.unwritten:
            self._log.error("State of line %s was not written: %s, task %s", row.id, row.status, row.task_id)


def _is_resolved_by(known: Row, found: Row) -> bool:
    """Return whether another run, which may have waited longer, found the outcome of a submit that is unknown here."""
    is_same_submit = (known.request, known.sent_at) == (found.request, found.sent_at)
    return is_same_submit and known.status in _IN_DOUBT and found.status not in _IN_DOUBT
