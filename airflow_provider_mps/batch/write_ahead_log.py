"""
The write-ahead log of a batch: rows that changed after the last result manifest, durable before the batch continues.

It consists of parts, ``{number}-{writer}.jsonl``. On a local disk a part grows with each write. Object storage cannot
append, so each write there makes a new part. Parts are read in the order of their names.

The results cover a part if they have all its rows. The summary names the covered parts, and the next batch ignores
them. So it does not matter which of them have been removed.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch.group_commit import GroupCommit
from airflow_provider_mps.batch.row import Row
from airflow_provider_mps.concurrency import run_in_daemon_thread
from airflow_provider_mps.storage.destination import is_local
from airflow_provider_mps.storage.errors import translate_storage_errors
from airflow_provider_mps.storage.objects import (
    MAX_REMOVED_OBJECTS,
    list_objects,
    read_object,
    remove_object,
    remove_objects,
    replace_object,
)
from airflow_provider_mps.storage.writers.local import ignore_unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow.providers.common.compat.sdk import ObjectStoragePath

CONCURRENT_READS = 16
"""Parts that are read at once: a killed batch may have left hundreds."""

_REMOVAL_FAILED = "Removing files of the write-ahead log failed; the next batch removes them"


class _Part(NamedTuple):
    number: int
    writer: str
    path: ObjectStoragePath


class _PartProgress(NamedTuple):
    """How much of a part has been read, in bytes."""

    size: int
    complete_size: int  # up to the end of the last complete line


class Checkpoint(NamedTuple):
    """The parts whose rows the row store has, at one moment."""

    covered: Mapping[str, int]
    """By writer, the number of its last covered part. The parts before it are covered, too."""
    parts: list[_Part]
    """The parts that can be removed when the results are written, oldest first."""


class WriteAheadLog(GroupCommit):
    """
    The log of one batch, and what earlier batches left.

    A batch that was suspended and has lost its lease may still record the outcome of its submits here. Therefore a part
    is removed only if this batch wrote it, or has read it and it has not grown since.

    :param writer: unique name of this writer
    """

    def __init__(self, folder: ObjectStoragePath, writer: str, log: Any) -> None:
        super().__init__(log)
        self._folder = folder
        self._writer = writer
        self._part_number = 0
        self._is_torn = False  # whether the last write to the current part may be incomplete
        self._covered: dict[str, int] = {}  # the parts that the results of the last writer cover, as in a checkpoint
        self._own_parts: dict[str, _Part] = {}  # by name, oldest first
        self._read_parts: dict[str, tuple[_Part, _PartProgress]] = {}  # parts of other writers, by name
        self._late_rows: list[tuple[str, Row]] = []  # with their writers

    async def read(self, last_writer: str | None = None, covered: Mapping[str, int] | None = None) -> list[Row]:
        """
        Return the rows of earlier runs that the results do not cover, oldest first; later writes go behind them.

        :param last_writer: the writer of the current result manifest; rows of others are left to :meth:`read_late_rows`
        :param covered: the parts that the current results cover, as in a :class:`Checkpoint`
        """
        self._covered = dict(covered or {})
        parts = await run_in_daemon_thread(self._list_parts)
        self._part_number = max((*(part.number for part in parts), *self._covered.values()), default=0) + 1
        found = await self._read_new_rows(parts)
        self._late_rows = [(writer, row) for writer, row in found if last_writer not in {None, writer}]
        return [row for writer, row in found if last_writer in {None, writer}]

    async def read_late_rows(self) -> list[Row]:
        """
        Return the rows that other writers wrote after they had lost their lease; each row is returned once.

        Of the rows that one writer wrote for a line, only the last one counts: an earlier one may say that the line was
        not accepted, although the writer has submitted it again since.
        """
        found = await self._read_new_rows(await run_in_daemon_thread(self._list_parts))
        late, self._late_rows = self._late_rows + found, []
        return list({(writer, row.key): row for writer, row in late}.values())

    async def _read_new_rows(self, parts: list[_Part]) -> list[tuple[str, Row]]:
        reads = asyncio.Semaphore(CONCURRENT_READS)

        async def read(part: _Part) -> tuple[_Part, bytes | None]:
            async with reads:
                return part, await run_in_daemon_thread(lambda: read_object(part.path))

        new_parts = [part for part in parts if self._may_have_new_rows(part)]
        rows: list[tuple[str, Row]] = []
        progress = {
            part.path.name: (part, _PartProgress(0, 0)) for part in parts if self._is_covered(part)
        }  # not read, but to be removed
        for part, content in await asyncio.gather(*map(read, new_parts)):
            _, known = self._read_parts.get(part.path.name, (part, None))
            if content is None or (known and known.size == len(content)):
                continue
            new = content[known.complete_size :] if known else content
            rows += [(part.writer, row) for row in self._parse_rows(part.path, new)]
            progress[part.path.name] = part, _PartProgress(len(content), content.rfind(b"\n") + 1)
        # Only now: a checkpoint during the reads must not have parts whose rows the caller has not got yet.
        self._read_parts |= progress
        return rows

    def _may_have_new_rows(self, part: _Part) -> bool:
        # A part in object storage never changes.
        is_known = part.path.name in self._read_parts and not is_local(part.path)
        return part.writer != self._writer and not is_known and not self._is_covered(part)

    def _is_covered(self, part: _Part) -> bool:
        """Return whether the results of the last writer had all rows of a part when this batch started."""
        return part.writer != self._writer and part.number <= self._covered.get(part.writer, -1)

    async def make_checkpoint(self) -> Checkpoint:
        """Start a new part, and return a checkpoint of the earlier ones, whose rows the row store already has."""
        async with self.write_lock:
            covered = {self._writer: self._part_number}
            self._part_number += 1
            # Copied at once: a removal in a thread changes them.
            read_parts = [part for part, _ in list(self._read_parts.values())]
            for part in read_parts:
                # A local part may still grow if its writer was suspended.
                if not is_local(part.path) or self._is_covered(part):
                    covered[part.writer] = max(part.number, covered.get(part.writer, 0))
            parts = sorted(read_parts + list(self._own_parts.values()), key=lambda part: part.path.name)
            return Checkpoint(covered, parts)

    async def remove_parts(self, checkpoint: Checkpoint, ensure_held: Callable[[], None] = lambda: None) -> None:
        """
        Remove the parts of a checkpoint, because the results have their rows.

        If the storage fails, the rest stays, and the next batch removes it. A part that cannot be removed stays alone.

        :param ensure_held: called in a thread before each request; raises when the lease is lost
        """
        names = set(list(self._own_parts) + list(self._read_parts))
        parts = [part for part in checkpoint.parts if part.path.name in names]
        at_once = 1 if is_local(self._folder) else MAX_REMOVED_OBJECTS
        kept: dict[str, str] = {}
        for start in range(0, len(parts), at_once):
            group = parts[start : start + at_once]

            def remove(group: list[_Part] = group) -> bool:
                ensure_held()
                return self._remove_parts(group, kept)

            if not await run_in_daemon_thread(remove):
                break
        if kept:
            name, reason = next(iter(kept.items()))
            self._log.warning("%s: %s of %s, e.g. %s (%s)", _REMOVAL_FAILED, len(kept), len(parts), name, reason)

    def _remove_parts(self, parts: list[_Part], kept: dict[str, str]) -> bool:
        """Remove parts; add those that could not be removed to ``kept``. Return whether the storage did not fail."""
        failed: dict[str, str] = {}
        try:
            if not is_local(self._folder):
                failed = remove_objects([part.path for part in parts])
            elif not self._remove_part(parts[0]):
                return True
        except AirflowException as error:
            self._log.warning("%s: %s", _REMOVAL_FAILED, error)
            return False
        kept |= failed
        for part in parts:
            if part.path.name not in failed:
                self._own_parts.pop(part.path.name, None)
                self._read_parts.pop(part.path.name, None)
        return True

    def _remove_part(self, part: _Part) -> bool:
        """Remove a local part; return whether it is gone, or ``False`` if it has grown or is being written to."""
        if part.writer == self._writer or self._is_covered(part):
            remove_object(part.path)
            return True
        file, known = Path(part.path.path), self._read_parts.get(part.path.name)
        with translate_storage_errors(part.path, action="remove"):
            try:
                with file.open("rb") as opened:
                    _lock(opened.fileno(), fcntl.LOCK_NB)
                    is_unchanged = known is not None and os.fstat(opened.fileno()).st_size == known[1].size
                    if is_unchanged:
                        file.unlink()
                    return is_unchanged
            except FileNotFoundError:
                return True
            except BlockingIOError:  # its writer is writing to it now
                return False

    def _list_parts(self) -> list[_Part]:
        named = [(path, *path.name.removesuffix(".jsonl").partition("-")[::2]) for path in list_objects(self._folder)]
        return [_Part(int(number), writer, path) for path, number, writer in named if number.isdecimal()]

    def _write_rows(self, rows: bytes) -> None:
        path = self._folder / f"{self._part_number:012}-{self._writer}.jsonl"
        # First: a write that fails may take effect later.
        self._own_parts[path.name] = _Part(self._part_number, self._writer, path)
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
