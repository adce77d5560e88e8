"""What happened to which line since the result manifest was written last: safe in the store before anything goes on."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch.objects import is_local, list_objects, read_object, remove_object, replace_object
from airflow_provider_mps.batch.row import Row
from airflow_provider_mps.errors import DestinationError
from airflow_provider_mps.own_thread import in_own_thread
from airflow_provider_mps.store_errors import explaining
from airflow_provider_mps.transfer.uncommitted.local import where_offered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.providers.common.compat.sdk import ObjectStoragePath

PATIENCE = 60.0
"""Seconds for which a store may fail before the batch is stopped: what is not written down must not be submitted."""
LONGEST_PAUSE = 8.0


class _Part(NamedTuple):
    number: int
    writer: str
    path: ObjectStoragePath


class _ReadPart(NamedTuple):
    size: int
    whole_lines: int
    """Bytes up to the end of the last line that was whole."""


class Journal:
    """
    Appends rows, one write at a time. Those that come during a write share the next one: a row waits for at most two.

    Object stores cannot append: there, each write is an object of its own. All are read in the order of their names.

    A batch that was suspended and has lost the destination may still write down what came of its requests. So only
    those parts are removed that this journal has written or read, and that have not grown since.

    :param folder: where it is
    :param writer: a name that no other writer has
    :param log: the task's
    :param make_room: called with what a store failed with; returns whether it has done something about it
    """

    def __init__(
        self, folder: ObjectStoragePath, writer: str, log: Any, make_room: Callable[[Exception], bool] = lambda _: False
    ) -> None:
        self._folder = folder
        self._writer = writer
        self._log = log
        self._make_room = make_room
        self._number = 0
        self._waiting: list[bytes] = []
        self._writing = asyncio.Lock()
        self._next_write: asyncio.Task[None] | None = None
        """Takes the rows in ``_waiting`` when the write before it has ended."""
        self._torn = False
        self._read_parts: dict[str, _ReadPart] = {}
        """Those of other writers, by their names."""
        self._late: list[Row] = []
        self.broken: AirflowException | None = None
        """Why nothing can be written any more."""
        self.unwritten: list[Row] = []
        """What happened and could not be written down."""

    async def recall(self, last_writer: str | None = None) -> list[Row]:
        """
        Return what earlier runs have written, oldest first, and write behind it from now on.

        :param last_writer: the one who wrote the results last: what others wrote is late, for :meth:`recall_late`
        """
        parts = await in_own_thread(self._parts)
        self._number = max((part.number for part in parts), default=0) + 1
        found = await self._read_new(parts)
        self._late = [row for writer, row in found if last_writer not in {None, writer}]
        return [row for writer, row in found if last_writer in {None, writer}]

    async def recall_late(self) -> list[Row]:
        """Return, once, what other writers have written after they had lost the destination."""
        found = await self._read_new(await in_own_thread(self._parts))
        late, self._late = self._late, []
        return late + [row for _, row in found]

    async def _read_new(self, parts: list[_Part]) -> list[tuple[str, Row]]:
        rows: list[tuple[str, Row]] = []
        for part in parts:
            known = self._read_parts.get(part.path.name)
            # An object that has been read does not change.
            if part.writer == self._writer or (known and not is_local(part.path)):
                continue
            content = await in_own_thread(lambda part=part: read_object(part.path))  # type: ignore[misc]
            if content is None or (known and known.size == len(content)):
                continue
            new = content[known.whole_lines :] if known else content
            rows += [(part.writer, row) for row in self._read(part.path, new)]
            self._read_parts[part.path.name] = _ReadPart(len(content), content.rfind(b"\n") + 1)
        return rows

    async def write(self, row: Row) -> None:
        """
        Return when the store has it.

        :raises AirflowException: when the store has failed for some time
        """
        if self.broken:
            self.unwritten.append(row)
            raise self.broken
        self._waiting.append(json.dumps(row.to_json()).encode() + b"\n")
        if self._next_write is None:
            self._next_write = asyncio.create_task(self._write_waiting())
        writing = self._next_write
        # Shielded: a caller that is cancelled must not take the rows of others with it.
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            writing.add_done_callback(_retrieved)
            raise
        except AirflowException:
            self.unwritten.append(row)
            raise

    async def settle(self) -> None:
        """Return when everything that was to be written has been."""
        if self._next_write is not None:
            await asyncio.wait([self._next_write])
        async with self._writing:
            return

    async def next_part(self) -> int:
        """Begin another part; return its number. What is in those before it, the ledger has."""
        async with self._writing:
            self._number += 1
            return self._number

    async def forget_before(self, number: int, require_lease: Callable[[], None] = lambda: None) -> None:
        """
        Remove the parts before one that were read or written here, of which the results have everything.

        The oldest go first, so that what is left is the newest, and reads as it should.

        :param number: the first part to keep
        :param require_lease: called in a thread before each removal; raises where nothing may be removed any more
        """

        def forget() -> None:
            for part in self._parts():
                if part.number < number and (part.writer == self._writer or part.path.name in self._read_parts):
                    require_lease()
                    self._remove(part)

        await in_own_thread(forget)

    def _remove(self, part: _Part) -> None:
        if part.writer == self._writer or not is_local(part.path):
            remove_object(part.path)
            return
        file = Path(part.path.path)
        # Blocked: it is being written to at this moment.
        with (
            explaining(part.path, doing="remove"),
            suppress(FileNotFoundError, BlockingIOError),
            file.open("rb") as read,
        ):
            _lock(read.fileno(), fcntl.LOCK_NB)
            if os.fstat(read.fileno()).st_size == self._read_parts[part.path.name].size:
                file.unlink()
                del self._read_parts[part.path.name]

    def _parts(self) -> list[_Part]:
        """Return the parts that are there, oldest first."""
        named = [(path, *path.name.removesuffix(".jsonl").partition("-")[::2]) for path in list_objects(self._folder)]
        return [_Part(int(number), writer, path) for path, number, writer in named if number.isdecimal()]

    async def _write_waiting(self) -> None:
        async with self._writing:
            self._next_write = None
            rows, self._waiting = self._waiting, []
            if self.broken:
                raise self.broken
            try:
                await self._append(b"".join(rows))
            except AirflowException as error:
                self.broken = error
                raise

    async def _append(self, rows: bytes) -> None:
        loop = asyncio.get_running_loop()
        pause, give_up_at = 0.25, loop.time() + PATIENCE
        while True:
            try:
                await in_own_thread(lambda: self._write_part(rows))
            except AirflowException as error:
                if self._make_room(error):
                    continue
                if isinstance(error, DestinationError):
                    raise
                if loop.time() + pause > give_up_at:
                    raise
                self._log.warning("The state of the batch could not be written, still trying: %s", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                return

    def _write_part(self, rows: bytes) -> None:
        path = self._folder / f"{self._number:012}-{self._writer}.jsonl"
        if not is_local(path):
            replace_object(path, rows)
            self._number += 1
            return
        with explaining(path):
            file = Path(path.path)
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("ab", buffering=0) as opened:
                _lock(opened.fileno())
                if os.fstat(opened.fileno()).st_nlink == 0:
                    raise InterruptedError("another batch has removed it at this moment")
                # What a full disk has cut off before must not be taken for the beginning of this.
                content = b"\n" + rows if self._torn else rows
                self._torn = True
                if opened.write(content) != len(content):
                    raise OSError("the disk took only a part of it")
                with where_offered():
                    os.fdatasync(opened.fileno())
                self._torn = False

    def _read(self, part: ObjectStoragePath, content: bytes) -> Iterator[Row]:
        for line in content.splitlines():
            if line.strip():
                try:
                    yield Row.from_json(json.loads(line))
                except (ValueError, RecursionError):
                    # The end of a write that was cut off: nobody has gone on before it was whole.
                    self._log.warning("A line of %s that was not written to its end is left out", part)


def _lock(file: int, flags: int = 0) -> None:
    """
    Let no other process write to a part, or remove it, until the file is closed.

    :raises BlockingIOError: with the flag ``LOCK_NB``, where another process has locked it
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | flags)
    except BlockingIOError:
        raise
    except OSError:  # not every file system has locks
        return


def _retrieved(writing: asyncio.Task[None]) -> None:
    with suppress(asyncio.CancelledError):
        writing.exception()
