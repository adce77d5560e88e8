"""
All rows of a running batch, in memory.

A dictionary is enough: 100,000 rows take about 120 MB (``benchmarks/row_store.py``). If the process dies, the result
manifest and the write-ahead log have the rows.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_mps.batch.row import PROBLEM_STATUSES, LineStatus
from airflow_provider_mps.batch.spending import Spending
from airflow_provider_mps.batch.summary import MAX_LISTED_PROBLEMS, Summary

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from airflow_provider_mps.batch.row import Row


class RowStore:
    """Rows by their key. All methods are thread-safe, and return a consistent snapshot."""

    def __init__(self) -> None:
        self._rows: dict[str | int | None, Row] = {}
        self._lock = threading.Lock()
        self.empty_cues: int | None = None
        """Cues without a text in a subtitle file; ``None`` for other manifests."""
        self.price: Decimal | None = None
        """Price of 1,000 characters, for the summary; ``None`` if the user gave none."""

    def put(self, row: Row) -> None:
        """Add a row, or replace the row with the same key."""
        self.load([row])

    def load(self, rows: Iterable[Row]) -> None:
        """Add all rows or, if reading them fails, none; later ones replace earlier ones with the same key."""
        loaded = {row.key: _replace_surrogates(row) for row in rows}
        with self._lock:
            self._rows.update(loaded)

    def remove(self, line_id: str) -> None:
        """Remove the row of an id."""
        with self._lock:
            self._rows.pop(line_id, None)

    def reset_failed(self) -> None:
        """Make the lines that MPS failed or rejected pending again, so that they are resubmitted."""
        with self._lock:
            for key, row in self._rows.items():
                if row.status in {LineStatus.FAILED, LineStatus.REJECTED}:
                    self._rows[key] = row.with_status(LineStatus.PENDING, task_id=None)

    def forget_line_numbers(self) -> None:
        """Clear the line numbers, which are of an earlier manifest, and remove the rows of its invalid lines."""
        with self._lock:
            self._rows = {
                key: replace(row, line=None) for key, row in self._rows.items() if row.status is not LineStatus.INVALID
            }

    def find(self, line_id: str) -> Row | None:
        """Return the row of an id; ``None`` if there is none."""
        return self._rows.get(line_id)

    def count_ids(self) -> int:
        """Return the number of rows that have an id as key: all but those of invalid lines."""
        return sum(isinstance(row.key, str) for row in self._snapshot())

    def count_orphans(self) -> int:
        """Return the number of accepted lines without stored audio that only an earlier manifest had."""
        waiting = {LineStatus.PROCESSING, LineStatus.STORE_FAILED}
        return sum(row.line is None and row.status in waiting for row in self._snapshot())

    def summarize(self) -> Summary:
        """Return counts, sums and the first problems of this manifest's lines."""
        rows = [row for row in self._snapshot() if row.line is not None]
        spending = Spending(self.price)
        for row in rows:
            if row.task_id is not None:
                spending.add(row.voice_id, row.characters or 0)
        return Summary(
            Counter(row.status for row in rows),
            characters=spending.total_characters,
            size=sum(row.size or 0 for row in rows),
            seconds=sum((row.duration or 0 for row in rows), 0.0),
            problems=self.problems(MAX_LISTED_PROBLEMS),
            empty_cues=self.empty_cues,
            spending=spending,
        )

    def problems(self, limit: int, *statuses: LineStatus) -> list[Row]:
        """Return the first lines of this manifest that have one of the statuses; by default, all without audio."""
        statuses = statuses or PROBLEM_STATUSES
        found = [row for row in self._snapshot() if row.line is not None and row.status in statuses]
        return sorted(found, key=_sort_key)[:limit]

    def rows(self) -> list[Row]:
        """Return all rows: the lines of this manifest in their order, then those of earlier ones by id."""
        return sorted(self._snapshot(), key=_sort_key)

    def _snapshot(self) -> list[Row]:
        with self._lock:
            return list(self._rows.values())


def _sort_key(row: Row) -> tuple[bool, int, str]:
    return row.line is None, row.line or 0, row.id or ""


def _replace_surrogates(row: Row) -> Row:
    """Make an error encodable: it may quote half of a surrogate pair."""
    if row.error is None or row.error.isascii():
        return row
    return replace(row, error=row.error.encode("utf-8", "replace").decode())
