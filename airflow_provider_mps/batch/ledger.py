"""The rows of a batch while it runs: in a temporary file of the worker, so that memory does not grow with them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.batch.row import PROBLEMS, LineStatus, Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_COLUMNS = [field.name for field in fields(Row)]
_NAMES = ", ".join(_COLUMNS)
_PLACES = ", ".join("?" * (len(_COLUMNS) + 1))


class Ledger:
    """
    Rows by their key. It is used by the thread that made it, but for :meth:`load` and :meth:`rows`.

    What it holds can be had again from the result manifest and its journal.
    """

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="mps-batch-", ignore_cleanup_errors=True)
        self._file = Path(self._folder.name) / "rows.sqlite"
        self._rows = self._open()
        # So that a snapshot can be read beside the changes.
        self._rows.execute("PRAGMA journal_mode = WAL")
        self._rows.execute("PRAGMA synchronous = OFF")
        self._rows.execute(f"CREATE TABLE rows (key TEXT PRIMARY KEY, {_NAMES})")
        self._rows.execute("CREATE INDEX by_line ON rows (line)")

    @property
    def folder(self) -> str:
        """Where the temporary file is."""
        return self._folder.name

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, isolation_level=None, timeout=60)

    def close(self) -> None:
        """Forget everything."""
        self._rows.close()
        self._folder.cleanup()

    def put(self, row: Row) -> None:
        """Keep a row in place of the one of the same key."""
        self._rows.execute(f"REPLACE INTO rows VALUES ({_PLACES})", _values(row))  # noqa: S608 - places only

    def load(self, rows: Iterable[Row]) -> None:
        """Keep rows of an earlier run, the later ones in place of earlier ones of the same key. Any thread may."""
        with closing(self._open()) as loading:
            loading.execute("BEGIN")
            loading.executemany(f"REPLACE INTO rows VALUES ({_PLACES})", map(_values, rows))  # noqa: S608
            loading.execute("COMMIT")

    def remove(self, line_id: str) -> None:
        """Forget what is known of a line."""
        self._rows.execute("DELETE FROM rows WHERE key = ?", (f"id {line_id}",))

    def try_failed_again(self) -> None:
        """Let what MPS has failed or refused be submitted anew."""
        self._rows.execute(
            "UPDATE rows SET status = ?, task_id = NULL, error = NULL WHERE status IN (?, ?)",
            (LineStatus.PENDING, LineStatus.FAILED, LineStatus.REFUSED),
        )

    def forget_lines(self) -> None:
        """Keep what earlier runs did, and not which lines of theirs it was; what was invalid then is not kept."""
        self._rows.execute("DELETE FROM rows WHERE status = ?", (LineStatus.INVALID,))
        self._rows.execute("UPDATE rows SET line = NULL")

    def find(self, line_id: str) -> Row | None:
        """Return what is known of a line."""
        found = self._rows.execute(f"SELECT {_NAMES} FROM rows WHERE key = ?", (f"id {line_id}",)).fetchone()  # noqa: S608
        return None if found is None else _row(found)

    def count_all(self) -> int:
        """Return how many rows there are that name a line by its id."""
        (count,) = self._rows.execute("SELECT count(*) FROM rows WHERE key LIKE 'id %'").fetchone()
        return int(count)

    def left_over(self) -> int:
        """Return how many lines MPS has accepted that are not in this manifest, and were not stored."""
        query = "SELECT count(*) FROM rows WHERE line IS NULL AND task_id IS NOT NULL AND status IN (?, ?)"
        (count,) = self._rows.execute(query, (LineStatus.PROCESSING, LineStatus.UNSTORED)).fetchone()
        return int(count)

    def counts(self) -> dict[LineStatus, int]:
        """Return how many lines of this manifest are how far."""
        query = "SELECT status, count(*) FROM rows WHERE line IS NOT NULL GROUP BY status"
        return {LineStatus(status): count for status, count in self._rows.execute(query)}

    def sums(self) -> tuple[int, int, float]:
        """Return the characters that MPS has accepted, and bytes and seconds of audio that are stored."""
        query = (
            "SELECT sum(CASE WHEN task_id IS NOT NULL THEN characters END), sum(size), sum(duration) "
            "FROM rows WHERE line IS NOT NULL"
        )
        characters, size, seconds = self._rows.execute(query).fetchone()
        return characters or 0, size or 0, seconds or 0.0

    def problems(self, most: int, *statuses: LineStatus) -> list[Row]:
        """Return the first lines of this manifest that have no audio, and why; of all statuses or of some."""
        wanted = statuses or PROBLEMS
        among = ", ".join("?" * len(wanted))
        query = f"SELECT {_NAMES} FROM rows WHERE line IS NOT NULL AND status IN ({among}) ORDER BY line LIMIT ?"  # noqa: S608
        return [_row(found) for found in self._rows.execute(query, (*wanted, most))]

    def rows(self) -> Iterator[Row]:
        """Return all rows as they are now: the lines of this manifest in their order, then what is of earlier ones."""
        with closing(self._open()) as snapshot:
            for found in snapshot.execute(f"SELECT {_NAMES} FROM rows ORDER BY line IS NULL, line, key"):  # noqa: S608
                yield _row(found)


def _values(row: Row) -> tuple[Any, ...]:
    return tuple(_storable(value) for value in (row.key, *(getattr(row, name) for name in _COLUMNS)))


def _storable(value: Any) -> Any:
    """Return a value without halves of surrogate pairs, which an error may quote and no database takes."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) and not value.isascii() else value


def _row(found: tuple[Any, ...]) -> Row:
    values = dict(zip(_COLUMNS, found, strict=True))
    return Row(**{**values, "status": LineStatus(values["status"])})
