"""
Group commit: rows of a batch are written in groups, one group at a time.

A row that must be durable at once starts a write. Other rows wait for the next write, but only for a short time. In
object storage each write is a request, so the fewer writes, the better.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.concurrency import run_in_daemon_thread
from airflow_provider_mps.exceptions import DestinationError
from airflow_provider_mps.redaction import describe_error
from airflow_provider_mps.storage.errors import is_storage_full

if TYPE_CHECKING:
    from airflow_provider_mps.batch.row import Row

OUTAGE_TIMEOUT_SECONDS = 60.0
"""How long writes may fail before the batch is stopped: a line must not be submitted before its row is durable."""
MIN_BACKOFF_SECONDS = 0.25
MAX_BACKOFF_SECONDS = 8.0
MAX_SHARING_DELAY_SECONDS = 0.1
"""Longest time that an awaited row waits for another row to start the write."""
MAX_UNAWAITED_DELAY_SECONDS = 1.0
"""Longest time that a row which is not awaited waits for another row to start the write."""


class GroupCommit(ABC):
    """Write rows in groups; rows that arrive during a write share the next one."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._next: _Group | None = None  # the group that takes new rows
        self._write_seconds = 0.0  # duration of the last write
        self.write_lock = asyncio.Lock()
        """Held during each write."""
        self.failure: AirflowException | None = None
        """Why rows cannot be written any more."""
        self.unwritten: list[Row] = []
        """Rows that could not be written."""

    async def write(self, row: Row, *, may_delay: bool = False) -> None:
        """
        Write a row, and return when it is durable.

        :param may_delay: first wait for another row to start a write, which both then share. This row waits as long as
            the last write took, at most :data:`MAX_SHARING_DELAY_SECONDS`.
        :raises DestinationError: when the storage is full or must be fixed
        :raises AirflowException: when writes failed for :data:`OUTAGE_TIMEOUT_SECONDS`
        """
        # As long as a write takes: with a fast disk, sharing saves nothing.
        delay = min(self._write_seconds, MAX_SHARING_DELAY_SECONDS) if may_delay else 0.0
        write = self._add(row, delay)
        # Shielded: the write holds rows of other callers, too.
        try:
            await asyncio.shield(write)
        except asyncio.CancelledError:
            write.add_done_callback(ignore_error)
            raise

    def write_later(self, row: Row) -> None:
        """
        Write a row within about :data:`MAX_UNAWAITED_DELAY_SECONDS`, without waiting for it.

        :raises AirflowException: when an earlier write has failed for good; a later failure is raised by later calls
        """
        if self.failure:
            raise self.failure
        self._add(row, MAX_UNAWAITED_DELAY_SECONDS).add_done_callback(ignore_error)

    async def flush(self) -> None:
        """Write all queued rows at once, and wait until they are written, or have failed."""
        if self._next is not None:
            self._next.is_due.set()
            await asyncio.wait([self._next.write])
        async with self.write_lock:  # a write may be running
            return

    @abstractmethod
    def _write_rows(self, rows: bytes) -> None:
        """Write one group; called in a thread."""

    def _add(self, row: Row, delay: float) -> asyncio.Task[None]:
        group = self._next
        if group is None:
            group = self._next = _Group()
            group.write = asyncio.create_task(self._write(group))
        group.rows.append(row)
        if delay:
            asyncio.get_running_loop().call_later(delay, group.is_due.set)
        else:
            group.is_due.set()
        return group.write

    async def _write(self, group: _Group) -> None:
        await group.is_due.wait()
        async with self.write_lock:
            self._next = None
            clock = asyncio.get_running_loop().time
            started = clock()
            try:
                if self.failure:
                    raise self.failure
                await self._append(b"".join(json.dumps(row.to_json()).encode() + b"\n" for row in group.rows))
            except AirflowException as error:
                self.failure = error
                self.unwritten += group.rows
                raise
            self._write_seconds = clock() - started

    async def _append(self, rows: bytes) -> None:
        clock = asyncio.get_running_loop().time
        backoff, deadline = MIN_BACKOFF_SECONDS, clock() + OUTAGE_TIMEOUT_SECONDS
        while True:
            try:
                return await run_in_daemon_thread(lambda: self._write_rows(rows))
            except AirflowException as error:
                if is_storage_full(error):
                    raise DestinationError(
                        f"{error} The storage is full, so the batch was stopped: lines that were being submitted are "
                        "unknown, and may be billed. Make room and clear the task; it resumes, and resubmits nothing "
                        "that was recorded."
                    ) from error
                if isinstance(error, DestinationError) or clock() + backoff > deadline:
                    raise
                self._log.warning("Writing the batch state failed, will retry in %.2f s: %s", backoff, error)
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, MAX_BACKOFF_SECONDS)
            except Exception as error:  # e.g. a thread could not be started
                raise AirflowException(
                    f"The batch state could not be written ({describe_error(error)}), so the batch was stopped. A "
                    "retry or a clear resumes it."
                ) from error


class _Group:
    """Rows that are written together, as soon as one of them is due."""

    write: asyncio.Task[None]

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.is_due = asyncio.Event()


def ignore_error(write: asyncio.Task[None]) -> None:
    """Keep asyncio from logging an error that later calls raise."""
    if not write.cancelled():
        write.exception()
