"""
Measure how much memory a batch's rows need: in a dictionary, as a batch keeps them, and in a temporary SQLite file.

Each store gets a fresh process, which loads the rows as a batch loads those of an earlier run, replaces each one, and
then writes the result manifest. ``python -m benchmarks.row_store``.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.batch.results import Results
from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.row_store import RowStore
from benchmarks.storing_memory import PeakMemory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROWS = 100_000
FAILED_SHARE = 20
"""One row in so many has an error of several hundred characters."""
ERROR = "MPS text-to-speech task {0} failed: ErrorCode 70000: the text has characters that no voice can speak. " * 4


class SqliteStore:
    """
    Rows in a table of a temporary file.

    :param folder: where the file is
    """

    def __init__(self, folder: str) -> None:
        self._file = f"{folder}/rows.sqlite"
        self._columns = ", ".join(field.name for field in fields(Row))
        self._marks = ", ".join("?" * (len(fields(Row)) + 1))
        self._database = sqlite3.connect(self._file, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(f"CREATE TABLE rows (key PRIMARY KEY, {self._columns})")
        self._database.execute("CREATE INDEX by_line ON rows (line)")

    def _values(self, row: Row) -> tuple[object, ...]:
        return row.key, *(getattr(row, field.name) for field in fields(Row))

    def put(self, row: Row) -> None:
        """Replace a row."""
        self._database.execute(f"REPLACE INTO rows VALUES ({self._marks})", self._values(row))

    def load(self, rows: Iterable[Row]) -> None:
        """Add rows in one transaction."""
        self._database.execute("BEGIN")
        self._database.executemany(f"REPLACE INTO rows VALUES ({self._marks})", map(self._values, rows))
        self._database.execute("COMMIT")

    def rows(self) -> Iterator[Row]:
        """Return all rows in the order of their lines."""
        with closing(sqlite3.connect(self._file)) as snapshot:
            for values in snapshot.execute(f"SELECT {self._columns} FROM rows ORDER BY line"):
                row = Row(*values)
                yield row.with_status(LineStatus(row.status), error=row.error)


def write_rows(path: Path, rows: int) -> None:
    """Write a result manifest of an earlier run."""
    with path.open("w") as file:
        for number in range(rows):
            task_id = f"1300000000-DubbingAsync-00000000-0000-0000-0000-{number:012}"
            failed = number % FAILED_SHARE == 0
            row = Row(
                f"chapter-{number // 100:04}/clip-{number:06}",
                number + 1,
                LineStatus.FAILED if failed else LineStatus.STORED,
                task_id=task_id,
                path=None if failed else f"s3://aws_default@a-bucket/a-project/clips/chapter-0001/{number}.wav",
                voice_id="voice-00000000-0000-0000",
                duration=None if failed else number / 7,
                size=None if failed else 48044 + number,
                crc64=None if failed else f"{10**18 + number}",
                characters=300 + number % 100,
                error=ERROR.format(task_id) if failed else None,
                request=f"{number:064x}",
                sent_at="2026-01-01T00:00:00+00:00",
            )
            file.write(json.dumps(row.to_json()) + "\n")


def measure(candidate: str, folder: str) -> None:
    """Print the peak memory in MB, and the seconds for loading, replacing and writing all rows."""
    results = Results(ObjectStoragePath(f"file://{folder}"))
    # What is imported and allocated once for any file is not the rows'.
    results.write_summary({"run": []})
    results.read_summary()
    with PeakMemory() as memory:
        store = RowStore() if candidate == "dictionary" else SqliteStore(folder)
        times = [time.monotonic()]
        store.load(results.read_rows())
        times.append(time.monotonic())
        for row in results.read_rows():
            store.put(row)
        times.append(time.monotonic())
        results.write_rows(store.rows())
        times.append(time.monotonic())
    seconds = " | ".join(f"{after - before:.1f}" for before, after in pairwise(times))
    print(f"| {candidate} | {memory.above / 1e6:.0f} | {seconds} |", flush=True)


def main() -> None:
    """Print a row for each store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--measure", nargs=2, metavar=("STORE", "FOLDER"), help="one store, in this process")
    arguments = parser.parse_args()
    if arguments.measure:
        measure(*arguments.measure)
        return
    print(f"{arguments.rows:,} rows:\n")
    print("| store | peak memory (MB) | load (s) | replace all (s) | write results (s) |")
    print("|---|---|---|---|---|", flush=True)
    for candidate in ("dictionary", "SQLite file"):
        with tempfile.TemporaryDirectory() as folder:
            write_rows(Path(folder) / "results.jsonl", arguments.rows)
            subprocess.run([sys.executable, "-m", "benchmarks.row_store", "--measure", candidate, folder], check=True)


if __name__ == "__main__":
    main()
