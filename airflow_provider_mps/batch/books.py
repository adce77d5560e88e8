"""What is known of every line of a batch, and that it is written down: in the journal at once, in the results soon."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch.ballast import Ballast
from airflow_provider_mps.batch.journal import Journal
from airflow_provider_mps.batch.ledger import Ledger
from airflow_provider_mps.batch.plan import resolves
from airflow_provider_mps.batch.results import Results
from airflow_provider_mps.batch.row import LineStatus
from airflow_provider_mps.batch.summary import NAMED, Summary
from airflow_provider_mps.errors import DestinationError
from airflow_provider_mps.own_thread import in_own_thread
from airflow_provider_mps.store_errors import is_full
from airflow_provider_mps.transfer.uncommitted.spooled import MAY_NOT_REPLACE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from airflow_provider_mps.batch.lease import Holder
    from airflow_provider_mps.batch.options import BatchOptions
    from airflow_provider_mps.batch.row import Row


LEASE_TIMEOUT_SECONDS = 10.0
"""Seconds that writing the results waits for the next heartbeat, where the lease is in doubt."""


class Books:
    """
    Of the one batch that is at work in a destination.

    :param options: of the batch
    :param holder: whose task it is
    :param stop: called where nothing more may be submitted, with the reason
    :param log: the task's
    :param held: returns while no other batch may have taken over the destination, and raises where one has
    """

    def __init__(
        self,
        options: BatchOptions,
        holder: Holder,
        stop: Callable[[AirflowException], None],
        log: Any,
        held: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self.ledger = Ledger()
        self._options = options
        self._run = list(holder.instance)
        self._max_tries = holder.max_tries
        self._try_number = holder.try_number
        self._stop = stop
        self._log = log
        self._held = held or _no_lease
        self._writer = holder.token[:8]
        self._results = Results(options.destination)
        self._ballast = Ballast(self._results.ballast_path)
        self._journal = Journal(self._results.journal_path, self._writer, log, self._make_room)
        self._knows_all = False
        """Whether the ledger does: else the journal must stay."""
        self._full = False
        self._writing = asyncio.Lock()

    async def recall(self) -> None:
        """Take over what is known of the destination, and write it down anew, so that the journal is short."""
        await self.look_back()
        self._knows_all = True
        await self.write_results(finished=False)
        if self._options.destination.protocol in MAY_NOT_REPLACE:
            # Before anything is billed: some of these filesystems write a file, and do not replace it later.
            await self.write_results(finished=False)

    async def look_back(self) -> None:
        """
        Read what is known of the destination.

        :raises DestinationError: when somebody has spoilt it: without it, what was paid would be paid again
        """
        summary = await in_own_thread(self._results.read_summary)
        # The results have what other writers knew, but for what they wrote after they had lost the destination.
        earlier = await self._journal.recall(summary.get("writer"))
        if not self._options.resume and summary.get("run") not in (None, self._run):
            self._log.warning("resume=False: what another run has left in %s is not heeded", self._options.destination)
            return
        await in_own_thread(lambda: self.ledger.load(self._results.read_rows()))
        known = self.ledger.count_all()
        await in_own_thread(lambda: self._results.require_rows(known, summary))
        await in_own_thread(lambda: self.ledger.load(earlier))
        await self.adopt_late()
        is_retry = (
            (summary.get("run"), summary.get("max_tries")) == (self._run, self._max_tries)
            # Of an attempt that had ended for good, the next one is no retry.
            and not 0 < summary.get("ended", 0) < self._try_number
        )
        if summary.get("finished") and not is_retry:
            # Somebody runs again what has ended by itself: he wants what failed to be tried again.
            self.ledger.try_failed_again()
        self.ledger.forget_lines()

    async def record(self, row: Row) -> None:
        """
        Return when the store has it.

        :raises AirflowException: when it could not be written down
        """
        try:
            self.ledger.put(row)
        except sqlite3.Error as error:
            self._knows_all = False
            await self._journal.write(row)
            raise AirflowException(
                f"The rows of the batch cannot be kept in {self.ledger.folder}, the worker's temporary folder "
                f"({error}): nothing more is submitted. Make room there; a retry, or a clear, goes on."
            ) from error
        await self._journal.write(row)

    async def adopt_late(self) -> list[Row]:
        """
        Look for what an earlier run has found out, of lines that are unknown here, after it had lost the destination.

        :return: rows of lines that MPS has accepted, and which can be waited for
        """
        accepted: list[Row] = []
        for row in await self._journal.recall_late():
            known = None if row.id is None else self.ledger.find(row.id)
            if known is None:
                self.ledger.put(replace(row, line=None))
            elif resolves(known, row):
                resolved = replace(row, line=known.line)
                self.ledger.put(resolved)
                accepted = [other for other in accepted if other.key != row.key]
                accepted += [resolved] if row.status in {LineStatus.PROCESSING, LineStatus.UNSTORED} else []
            elif row.task_id is not None and row.task_id != known.task_id:
                self._log.warning(
                    "Line %s was also accepted as task %s, sent at %s by an earlier run: it may be billed, and its "
                    "audio is not stored",
                    row.id,
                    row.task_id,
                    row.sent_at,
                )
        return accepted

    def note(self, row: Row) -> None:
        """Keep a row until the results are written, where nothing can be waited for."""
        with suppress(sqlite3.Error):
            self.ledger.put(row)

    def summary(self) -> Summary:
        """Return counts, sums, and what there is to complain of."""
        return Summary(self.ledger.counts(), *self.ledger.sums(), self.ledger.problems(NAMED))

    async def write_results(self, *, finished: bool, keep_room: bool = True) -> None:
        """
        Put all rows in place of the journal, unless the ledger does not know all of them.

        :param finished: the batch has ended by itself
        :param keep_room: keep some for what must be written on a full disk
        :raises DestinationTakenError: when another batch has taken over: nothing of what is there is changed
        :raises AirflowException: when they cannot be written this time: the journal has them
        """
        async with self._writing:
            if not self._knows_all:
                return
            require_lease = self._lease_check()
            part = await self._journal.next_part()
            told = {
                **self.summary().to_json(),
                "manifest": str(self._options.manifest),
                "finished": finished,
                "run": self._run,
                "max_tries": self._max_tries,
                "writer": self._writer,
            }
            await in_own_thread(lambda: self._write(told, require_lease, keep_room=keep_room))
            await self._journal.forget_before(part, require_lease)

    def _lease_check(self) -> Callable[[], None]:
        """Return what a thread calls last before it changes something: the worker may be suspended at any moment."""
        loop = asyncio.get_running_loop()

        def require_lease() -> None:
            holding = asyncio.run_coroutine_threadsafe(self._held(), loop)
            try:
                holding.result(LEASE_TIMEOUT_SECONDS)
            except TimeoutError:
                holding.cancel()
                raise AirflowException(
                    f"It could not be made sure within {LEASE_TIMEOUT_SECONDS:g} seconds that no other batch has taken "
                    f"over {self._options.destination}, so its results were not written."
                ) from None

        return require_lease

    async def settle(self) -> None:
        """Let the journal be written to its end, and the log have what is not."""
        await self._journal.settle()
        for row in self._journal.unwritten:
            self._log.error("Not written down: line %s is %s, task %s", row.id, row.status, row.task_id)

    async def close(self, *, finished: bool) -> None:
        """
        Write the results for the last time.

        :raises AirflowException: when they cannot be written
        """
        self._ballast.throw_off()
        await self.write_results(finished=finished, keep_room=False)

    def _write(self, told: dict[str, Any], require_lease: Callable[[], None], *, keep_room: bool) -> None:
        size = self._results.write_rows(self.ledger.rows(), require_lease)
        require_lease()
        self._results.write_summary(told)
        if keep_room and not self._full:
            self._ballast.take_on(size)

    def _make_room(self, error: Exception) -> bool:
        """Let what was paid be written down on a full disk, and submit nothing more there."""
        if not is_full(error) or not self._ballast.throw_off():
            return False
        self._full = True
        self._stop(
            DestinationError(
                f"{self._options.destination} is full: nothing more was submitted ({error}). Make room; a retry or a "
                "clear goes on, and pays for nothing again."
            )
        )
        return True


async def _no_lease() -> None:
    """Hold the destination without a lease."""
