"""
The write-ahead log of a batch: rows that changed after the last result manifest, durable before the batch continues.

It consists of parts, ``{number}-{writer}.jsonl``. On a local disk a part grows with each write. Object storage cannot
append, so each write there makes a new part. Parts are read in the order of their names.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch.row import Row
from airflow_provider_mps.concurrency import run_in_daemon_thread
from airflow_provider_mps.exceptions import DestinationError
from airflow_provider_mps.storage.destination import is_local
from airflow_provider_mps.storage.errors import is_storage_full, translate_storage_errors
from airflow_provider_mps.storage.objects import list_objects, read_object, remove_object, replace_object
from airflow_provider_mps.storage.writers.local import ignore_unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.providers.common.compat.sdk import ObjectStoragePath

OUTAGE_TIMEOUT_SECONDS = 60.0
"""How long writes may fail before the batch is stopped: a line must not be submitted before its row is durable."""
MIN_BACKOFF_SECONDS = 0.25
MAX_BACKOFF_SECONDS = 8.0


class _Part(NamedTuple):
    number: int
    writer: str
    path: ObjectStoragePath


class _PartProgress(NamedTuple):
    size: int
    complete_size: int  # up to the end of the last complete line


class WriteAheadLog:
    """
    Append rows, one write at a time; rows that arrive during a write share the next one.

    A batch that was suspended and has lost its lease may still record the outcome of its submits here. Therefore a part
    is removed only if this batch wrote it, or has read it and it has not grown since.

    :param writer: unique name of this writer
    """

    def __init__(self, folder: ObjectStoragePath, writer: str, log: Any) -> None:
        self._folder = folder
        self._writer = writer
        self._log = log
        self._part_number = 0
        self._queue: list[Row] = []
        self._write_lock = asyncio.Lock()
        self._next_write: asyncio.Task[None] | None = None  # writes the queue when the current write has ended
        self._is_torn = False  # whether the last write to the current part may be incomplete
        self._read_parts: dict[str, _PartProgress] = {}  # parts of other writers, by name
        self._late_rows: list[Row] = []
        self.failure: AirflowException | None = None  # why the log cannot be written any more
        self.unwritten: list[Row] = []  # rows that could not be written

    async def read(self, last_writer: str | None = None) -> list[Row]:
        """
        Return the rows of earlier runs, oldest first, and start a new part behind them.

        :param last_writer: the writer of the current result manifest; rows of others are left to :meth:`read_late_rows`
        """
        parts = await run_in_daemon_thread(self._list_parts)
        self._part_number = max((part.number for part in parts), default=0) + 1
        found = await self._read_new_rows(parts)
        self._late_rows = [row for writer, row in found if last_writer not in {None, writer}]
        return [row for writer, row in found if last_writer in {None, writer}]

    async def read_late_rows(self) -> list[Row]:
        """Return the rows that other writers wrote after they had lost their lease; each row is returned once."""
        found = await self._read_new_rows(await run_in_daemon_thread(self._list_parts))
        late, self._late_rows = self._late_rows, []
        return late + [row for _, row in found]

    async def _read_new_rows(self, parts: list[_Part]) -> list[tuple[str, Row]]:
        rows: list[tuple[str, Row]] = []
        for part in parts:
            known = self._read_parts.get(part.path.name)
            # A part in object storage never changes.
            if part.writer == self._writer or (known and not is_local(part.path)):
                continue
            content = await run_in_daemon_thread(lambda part=part: read_object(part.path))  # type: ignore[misc]
            if content is None or (known and known.size == len(content)):
                continue
            new = content[known.complete_size :] if known else content
            rows += [(part.writer, row) for row in self._parse_rows(part.path, new)]
            self._read_parts[part.path.name] = _PartProgress(len(content), content.rfind(b"\n") + 1)
        return rows

    async def write(self, row: Row) -> None:
        """
        Write a row, and return when it is durable.

        :raises DestinationError: when the storage is full or must be fixed
        :raises AirflowException: when writes failed for :data:`OUTAGE_TIMEOUT_SECONDS`
        """
        self._queue.append(row)
        if self._next_write is None:
            self._next_write = asyncio.create_task(self._write_queue())
        write = self._next_write
        # Shielded: the write holds rows of other callers, too.
        try:
            await asyncio.shield(write)
        except asyncio.CancelledError:
            write.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    async def flush(self) -> None:
        """Wait until all queued rows are written, or have failed."""
        if self._next_write is not None:
            await asyncio.wait([self._next_write])
        async with self._write_lock:
            return

    async def start_part(self) -> int:
        """Start a new part, and return its number; the row store has all rows of earlier parts."""
        async with self._write_lock:
            self._part_number += 1
            return self._part_number

    async def remove_parts_before(self, number: int, ensure_held: Callable[[], None] = lambda: None) -> None:
        """
        Remove the parts before ``number`` that this batch wrote or read, oldest first: the results have their rows.

        :param ensure_held: called in a thread before each removal; raises when the lease is lost
        """

        def remove() -> None:
            for part in self._list_parts():
                if part.number < number and (part.writer == self._writer or part.path.name in self._read_parts):
                    ensure_held()
                    self._remove_part(part)

        await run_in_daemon_thread(remove)

    def _remove_part(self, part: _Part) -> None:
        if part.writer == self._writer or not is_local(part.path):
            remove_object(part.path)
            return
        file = Path(part.path.path)
        # BlockingIOError: its writer is writing to it now.
        with (
            translate_storage_errors(part.path, action="remove"),
            suppress(FileNotFoundError, BlockingIOError),
            file.open("rb") as opened,
        ):
            _lock(opened.fileno(), fcntl.LOCK_NB)
            if os.fstat(opened.fileno()).st_size == self._read_parts[part.path.name].size:
                file.unlink()
                del self._read_parts[part.path.name]

    def _list_parts(self) -> list[_Part]:
        named = [(path, *path.name.removesuffix(".jsonl").partition("-")[::2]) for path in list_objects(self._folder)]
        return [_Part(int(number), writer, path) for path, number, writer in named if number.isdecimal()]

    async def _write_queue(self) -> None:
        async with self._write_lock:
            self._next_write = None
            rows, self._queue = self._queue, []
            try:
                if self.failure:
                    raise self.failure
                await self._append(b"".join(json.dumps(row.to_json()).encode() + b"\n" for row in rows))
            except AirflowException as error:
                self.failure = error
                self.unwritten += rows
                raise

    async def _append(self, rows: bytes) -> None:
        loop = asyncio.get_running_loop()
        backoff, deadline = MIN_BACKOFF_SECONDS, loop.time() + OUTAGE_TIMEOUT_SECONDS
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
                if isinstance(error, DestinationError) or loop.time() + backoff > deadline:
                    raise
                self._log.warning("Writing the batch state failed, will retry in %.2f s: %s", backoff, error)
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, MAX_BACKOFF_SECONDS)

    def _write_rows(self, rows: bytes) -> None:
        path = self._folder / f"{self._part_number:012}-{self._writer}.jsonl"
        if not is_local(path):
            replace_object(path, rows)
            self._part_number += 1
            return
        with translate_storage_errors(path):
            file = Path(path.path)
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("ab", buffering=0) as opened:
                _lock(opened.fileno())
                if os.fstat(opened.fileno()).st_nlink == 0:
                    raise InterruptedError("another batch removed the part at the same time")
                # A line that an earlier write left incomplete must not run into this one.
                content = b"\n" + rows if self._is_torn else rows
                self._is_torn = True
                if opened.write(content) != len(content):
                    raise OSError("the disk took only a part of the rows")
                with ignore_unsupported():
                    os.fdatasync(opened.fileno())
                self._is_torn = False

    def _parse_rows(self, part: ObjectStoragePath, content: bytes) -> Iterator[Row]:
        for line in content.splitlines():
            if line.strip():
                try:
                    yield Row.from_json(json.loads(line))
                except (ValueError, RecursionError):
                    # A write that was cut off. Its batch did not continue before a whole line was written.
                    self._log.warning("Ignored an incomplete line of %s", part)


def _lock(file: int, flags: int = 0) -> None:
    """Lock a part until the file is closed; with ``LOCK_NB``, raise ``BlockingIOError`` if it is locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | flags)
    except BlockingIOError:
        raise
    except OSError:  # not every file system supports locks
        return
