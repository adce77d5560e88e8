"""Counts and sums of a batch: as JSON, as a log line, and as Markdown tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.batch.row import PROBLEM_STATUSES, LineStatus
from airflow_provider_mps.batch.spending import MAX_LISTED_VOICES, Spending
from airflow_provider_mps.storage.lineage import FileLineage, FileSet, SpeechCounts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.batch.row import Row

SUBMITS_PER_SECOND = 20
"""MPS's rate limit for submits. https://www.tencentcloud.com/document/product/1041/79693"""
MAX_LISTED_PROBLEMS = 20
"""Lines without audio that tables and errors list; the result manifest has all."""
MAX_ERROR_CHARACTERS = 200


@dataclass(frozen=True)
class Summary:
    """The progress of a batch."""

    counts: Mapping[LineStatus, int]
    characters: int = 0  # of the lines that MPS accepted, which it bills
    size: int = 0  # bytes of stored audio
    seconds: float = 0.0  # of stored audio
    problems: list[Row] = field(default_factory=list)  # the first lines without audio
    empty_cues: int | None = None  # that were skipped; ``None`` if the manifest is not a subtitle file
    spending: Spending = field(default_factory=Spending)  # of the lines that MPS accepted, by voice

    @property
    def lines(self) -> int:
        """The number of lines."""
        return sum(self.counts.values())

    def count(self, *statuses: LineStatus) -> int:
        """Return how many lines have one of the statuses."""
        return sum(self.counts.get(status, 0) for status in statuses)

    @property
    def failures(self) -> int:
        """The number of lines that ended without audio."""
        return self.count(*PROBLEM_STATUSES)

    def to_json(self) -> dict[str, Any]:
        """Return counts and sums."""
        return {
            "lines": self.lines,
            **{status.value: self.count(status) for status in LineStatus},
            "characters": self.characters,
            "bytes": self.size,
            "seconds": round(self.seconds, 3),
            **({} if self.empty_cues is None else {"empty_cues": self.empty_cues}),
            **self.spending.to_json(),
        }

    def make_lineage(self, manifest: ObjectStoragePath, destination: ObjectStoragePath) -> FileLineage:
        """Return what the batch has read and stored."""
        stored = self.count(LineStatus.STORED)
        return FileLineage(
            FileSet(manifest, rows=self.lines),
            [FileSet(destination / "results.jsonl", rows=self.lines), FileSet(destination, self.size, files=stored)],
            SpeechCounts(stored, self.lines, self.failures, self.characters, round(self.seconds, 3)),
        )

    def to_line(self) -> str:
        """Return counts and sums as a log line."""
        counts = ", ".join(f"{count:,} {status}" for status, count in self._nonzero_counts())
        return (
            f"{self.lines:,} lines: {counts or 'none'}; {self.characters:,} characters accepted"
            f"{self.spending.format_cost(self.characters)}, {self._duration()} of audio stored"
        )

    def to_markdown(self) -> str:
        """Return a table of counts and sums, one of the voices, and one of the first lines without audio."""
        rows = [
            *((status.value, f"{count:,}") for status, count in self._nonzero_counts()),
            ("all lines", f"{self.lines:,}"),
            ("characters accepted", f"{self.characters:,}"),
            ("audio stored", f"{self._duration()} ({self.size:,} bytes)"),
        ]
        if self.empty_cues:
            rows.append(("empty cues", f"{self.empty_cues:,}"))
        tables = [format_table(rows)]
        tables += [format_voice_table(self.spending)] if self.characters else []
        tables += [format_problem_table(self.problems, self.failures)] if self.problems else []
        return "\n\n".join(tables)

    def format_problem_names(self) -> str:
        """Return the ids of the first lines without audio, for an error message."""
        names = ", ".join(f"{row.id or f'line {row.line}'} ({row.status.value})" for row in self.problems)
        left = self.failures - len(self.problems)
        return f"{names} and {left:,} more" if left > 0 else names

    def _nonzero_counts(self) -> list[tuple[LineStatus, int]]:
        return [(status, count) for status in LineStatus if (count := self.count(status))]

    def _duration(self) -> timedelta:
        return timedelta(seconds=round(self.seconds))


def format_table(rows: list[tuple[str, str]]) -> str:
    """Return names and numbers as a Markdown table."""
    return "\n".join(["| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)])


def format_voice_table(spending: Spending) -> str:
    """Return lines, characters and, with a price, the cost of each voice as a Markdown table."""
    voices = [*spending.list_voices(MAX_LISTED_VOICES), ("**total**", spending.total_lines, spending.total_characters)]
    has_cost = spending.price is not None
    table = ["| voice | lines | characters |" + " cost |" * has_cost, "|---|---:|---:|" + "---:|" * has_cost]
    for voice, lines, characters in voices:
        cost = f" {spending.compute_cost(characters):,} |" if has_cost else ""
        table.append(f"| {_escape_cell(voice)} | {lines:,} | {characters:,} |{cost}")
    return "\n".join(table)


def format_problem_table(problems: list[Row], count: int) -> str:
    """Return the first of ``count`` lines without audio as a Markdown table."""
    table = ["| line | id | status | error |", "|---:|---|---|---|"]
    for row in problems:
        cells = (row.line or "", row.id or "", row.status.value, (row.error or "")[:MAX_ERROR_CHARACTERS])
        table.append(f"| {' | '.join(_escape_cell(cell) for cell in cells)} |")
    if count > len(problems):
        table.append(f"| | and {count - len(problems):,} more, in the result manifest | | |")
    return "\n".join(table)


def _escape_cell(value: object) -> str:
    """Return a value for a cell; a backslash before a ``|`` would make it end the cell."""
    return " ".join(str(value).split()).replace("\\", "\\\\").replace("|", "\\|")
