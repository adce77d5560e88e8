"""Counts and sums of a batch: for a program, for the log, and as a table for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.batch.row import PROBLEMS, LineStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_mps.batch.row import Row

QUOTA = 20
"""Submits a second that MPS admits. https://www.tencentcloud.com/document/product/1041/79693"""
NAMED = 20
"""Lines without audio that are named; the result manifest has all."""
_SHOWN = 200
"""Characters of an error in a table."""


@dataclass(frozen=True)
class Summary:
    """How far a batch is."""

    counts: Mapping[LineStatus, int]
    characters: int = 0
    """Of the lines that MPS has accepted, which it bills."""
    size: int = 0
    """Bytes of stored audio."""
    seconds: float = 0.0
    """Seconds of stored audio."""
    problems: list[Row] = field(default_factory=list)
    """The first lines without audio."""

    @property
    def lines(self) -> int:
        """How many lines were read."""
        return sum(self.counts.values())

    def count(self, *statuses: LineStatus) -> int:
        """Return how many lines have one of the statuses."""
        return sum(self.counts.get(status, 0) for status in statuses)

    @property
    def failures(self) -> int:
        """How many lines have ended without audio."""
        return self.count(*PROBLEMS)

    def to_json(self) -> dict[str, Any]:
        """Return counts and sums."""
        return {
            "lines": self.lines,
            **{status.value: self.counts.get(status, 0) for status in LineStatus},
            "characters": self.characters,
            "bytes": self.size,
            "seconds": round(self.seconds, 3),
        }

    def to_line(self) -> str:
        """Return it for the log."""
        counted = ", ".join(f"{count:,} {status}" for status in LineStatus if (count := self.counts.get(status, 0)))
        return (
            f"{self.lines:,} lines: {counted or 'none'}; {self.characters:,} characters accepted, "
            f"{timedelta(seconds=round(self.seconds))} of audio stored"
        )

    def to_markdown(self) -> str:
        """Return it as tables: the counts, and the lines without audio."""
        rows = [(status.value, f"{count:,}") for status in LineStatus if (count := self.counts.get(status, 0))]
        rows += [
            ("all lines", f"{self.lines:,}"),
            ("characters accepted", f"{self.characters:,}"),
            ("audio stored", f"{timedelta(seconds=round(self.seconds))} ({self.size:,} bytes)"),
        ]
        counts = "\n".join(["| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)])
        return counts if not self.problems else f"{counts}\n\n{problem_table(self.problems, self.failures)}"

    def named_problems(self) -> str:
        """Return which lines have no audio, in a sentence's part."""
        named = ", ".join(_name(row) for row in self.problems)
        left = self.failures - len(self.problems)
        return f"{named} and {left:,} more" if left > 0 else named


def problem_table(problems: list[Row], count: int) -> str:
    """
    Return lines without audio as a table.

    :param problems: the first of them
    :param count: how many there are
    """
    table = ["| line | id | status | error |", "|---:|---|---|---|"]
    for row in problems:
        cells = (row.line or "", row.id or "", row.status.value, (row.error or "")[:_SHOWN])
        table.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    if count > len(problems):
        table.append(f"| | and {count - len(problems):,} more, in the result manifest | | |")
    return "\n".join(table)


def _name(row: Row) -> str:
    return f"line {row.line} ({row.status.value})" if row.id is None else f"{row.id} ({row.status.value})"


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
