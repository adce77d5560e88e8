"""What is known of every line of a batch, and that it is written down: in the journal at once, in the results soon."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.batch.ballast import Ballast
from airflow_provider_mps.batch.journal import Journal
from airflow_provider_mps.batch.ledger import Ledger
from airflow_provider_mps.batch.results import Results
from airflow_provider_mps.batch.summary import NAMED, Summary
from airflow_provider_mps.errors import DestinationError
from airflow_provider_mps.own_thread import in_own_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.providers.common.compat.sdk import AirflowException

    from airflow_provider_mps.batch.lease import Holder
    from airflow_provider_mps.batch.options import BatchOptions
    from airflow_provider_mps.batch.row import Row

_FULL = {errno.ENOSPC, errno.EDQUOT}


class Books:
    """
    Of the one batch that is at work in a destination.

    :param options: of the batch
    :param holder: whose task it is
    :param stop: called where nothing more may be submitted, with the reason
    :param log: the task's
    """

    def __init__(
        self, options: BatchOptions, holder: Holder, stop: Callable[[AirflowException], None], log: Any
    ) -> None:
        self.ledger = Ledger()
        self._options = options
        self._run = list(holder.instance)
        self._stop = stop
        self._log = log
        self._results = Results(options.destination)
        self._ballast = Ballast(self._results.ballast_path)
        self._journal = Journal(self._results.journal_path, holder.token[:8], log, self._make_room)
        self._recalled = False
        self._full = False
        self._writing = asyncio.Lock()

    async def recall(self) -> None:
        """Take over what is known of the destination, and write it down anew, so that the journal is short."""
        summary = await in_own_thread(self._results.read_summary)
        earlier = await self._journal.recall()
        if not self._options.resume and summary.get("run") not in (None, self._run):
            self._log.warning("resume=False: what another run has left in %s is not heeded", self._options.destination)
        else:
            await in_own_thread(lambda: self.ledger.load(self._results.read_rows()))
            await in_own_thread(lambda: self.ledger.load(earlier))
            if summary.get("finished"):
                # Somebody runs again what has ended by itself: he wants what failed to be tried again.
                self.ledger.try_failed_again()
        self.ledger.forget_lines()
        self._recalled = True
        await self.write_results(finished=False)

    async def record(self, row: Row) -> None:
        """Return when the store has it."""
        self.ledger.put(row)
        await self._journal.write(row)

    def summary(self) -> Summary:
        """Return counts, sums, and what there is to complain of."""
        return Summary(self.ledger.counts(), *self.ledger.sums(), self.ledger.problems(NAMED))

    async def write_results(self, *, finished: bool, keep_room: bool = True) -> None:
        """
        Put all rows in place of the journal.

        :param finished: the batch has ended by itself
        :param keep_room: keep some for what must be written on a full disk
        :raises AirflowException: when they cannot be written this time: the journal has them
        """
        async with self._writing:
            part = await self._journal.next_part()
            told = {
                **self.summary().to_json(),
                "manifest": str(self._options.manifest),
                "finished": finished,
                "run": self._run,
            }
            await in_own_thread(lambda: self._write(told, keep_room=keep_room))
            await self._journal.forget_before(part)

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
        if self._recalled:  # or what could not be read would be lost
            await self.write_results(finished=finished, keep_room=False)

    def _write(self, told: dict[str, Any], *, keep_room: bool) -> None:
        size = self._results.write_rows(self.ledger.rows())
        self._results.write_summary(told)
        if keep_room and not self._full:
            self._ballast.take_on(size)

    def _make_room(self, error: Exception) -> bool:
        """Let what was paid be written down on a full disk, and submit nothing more there."""
        if getattr(error.__cause__, "errno", None) not in _FULL or not self._ballast.throw_off():
            return False
        self._full = True
        self._stop(
            DestinationError(
                f"{self._options.destination} is full: nothing more was submitted ({error}). Make room; a retry or a "
                "clear goes on, and pays for nothing again."
            )
        )
        return True
