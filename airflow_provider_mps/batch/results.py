"""The files of a batch in its destination: the result manifest ``results.jsonl``, ``summary.json`` and its state."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_mps.batch.line import STATE_FOLDER
from airflow_provider_mps.batch.row import LEGACY_STATUSES, LineStatus, Row
from airflow_provider_mps.exceptions import DestinationError
from airflow_provider_mps.redaction import describe_error
from airflow_provider_mps.storage.destination import get_existing_size
from airflow_provider_mps.storage.errors import translate_storage_errors
from airflow_provider_mps.storage.objects import read_object, replace_object, write_object
from airflow_provider_mps.version_compat import iterate_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from airflow.providers.common.compat.sdk import ObjectStoragePath

_BLOCK_BYTES = 1024 * 1024
_REMOVABLE = {LineStatus.PENDING, LineStatus.INVALID}
"""Statuses of lines that the next result manifest may omit: MPS did not accept them."""


class Results:
    """The files of a batch, in the folder of its audio."""

    def __init__(self, destination: ObjectStoragePath) -> None:
        self.rows_path = destination / "results.jsonl"
        self.summary_path = destination / "summary.json"
        self.lock_path = destination / STATE_FOLDER / "lock.json"
        # Named as in version 1.0, whose batches must be resumable.
        self.write_ahead_log_path = destination / STATE_FOLDER / "journal"

    def read_rows(self) -> Iterator[Row]:
        """
        Return the rows of the result manifest; none if there is no result manifest.

        :raises DestinationError: when it is damaged
        :raises AirflowException: when it cannot be read this time
        """
        with translate_storage_errors(self.rows_path, action="read"):
            try:
                file = self.rows_path.open("rb")
            except FileNotFoundError:
                return
            with file:
                try:
                    yield from parse_rows(file)
                except (ValueError, RecursionError) as error:
                    raise DestinationError(
                        f"{self.rows_path} is not a result manifest of this version ({describe_error(error)}), so "
                        "nothing was submitted. It records what is billed already: restore it, or remove it to submit "
                        "all lines again."
                    ) from error

    def validate_rows(self, rows: int, summary: Mapping[str, Any]) -> None:
        """
        Check that no row of the result manifest is missing.

        :raises DestinationError: when it has fewer ``rows`` than a summary of this version or of 1.0 counts
        """
        names = [*(status.value for status in LineStatus if status not in _REMOVABLE), *LEGACY_STATUSES]
        expected = sum(summary.get(name, 0) for name in names)
        if rows < expected and get_existing_size(self.rows_path) is not None:
            # An unfinished batch may have rows only in its log. Of a finished one, it may have older rows.
            advice = (
                f" If you removed lines to submit them again, remove {self.summary_path} and "
                f"{self.write_ahead_log_path}; to submit all lines again, remove all three."
                if summary.get("finished")
                else ""
            )
            raise DestinationError(
                f"{self.rows_path} has {rows} of at least {expected} lines that {self.summary_path} counts, so nothing "
                f"was submitted. It records what is billed already: restore it.{advice}"
            )

    def write_rows(self, rows: Iterable[Row], before_commit: Callable[[], None] = lambda: None) -> None:
        """
        Write all rows; readers see either the old or the new result manifest.

        :param before_commit: called before the new one becomes visible; if it raises, the old one stays
        """

        def blocks() -> Iterator[bytes]:
            block = bytearray()
            for row in rows:
                block += json.dumps(row.to_json(), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
                if len(block) >= _BLOCK_BYTES:
                    yield bytes(block)
                    block.clear()
            yield bytes(block)
            before_commit()

        write_object(self.rows_path, blocks(), "application/x-ndjson")

    def read_summary(self) -> dict[str, Any]:
        """
        Return the summary; empty if there is none.

        :raises DestinationError: when the file was not written by a batch
        """
        content = read_object(self.summary_path)
        if content is None:
            return {}
        try:
            summary = json.loads(content)
        except (ValueError, RecursionError):
            summary = None
        if not isinstance(summary, dict) or "run" not in summary:
            raise DestinationError(
                f"{self.summary_path} was not written by a batch and would be overwritten, so nothing was submitted. "
                "Remove it, or choose another destination."
            )
        return summary

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write the summary."""
        replace_object(self.summary_path, json.dumps(summary, indent=2, ensure_ascii=False).encode() + b"\n")

    def mark_ended(self, run: list[Any], try_number: int) -> None:
        """
        Record that an attempt failed permanently, so that only a *clear* or another run can follow.

        The task's ``max_tries`` does not always show a clear: it stays as it was if ``retries`` was lowered.
        """
        summary = self.read_summary()
        if summary.get("run") == run and summary.get("finished") and read_object(self.lock_path) is None:
            self.write_summary({**summary, "ended": try_number})


def parse_rows(file: IO[bytes]) -> Iterator[Row]:
    """
    Parse the rows of a result manifest.

    :raises ValueError: when a line is not a row
    :raises RecursionError: when a line is nested too deeply
    """
    for line in iterate_lines(file):
        if line.strip():
            yield Row.from_json(json.loads(line))


def parse_covered_parts(summary: Mapping[str, Any]) -> dict[str, int]:
    """Return the parts of the write-ahead log that the results cover; none if the summary, e.g. of 1.0, names none."""
    covered = summary.get("write_ahead_log")
    if not isinstance(covered, dict):
        return {}
    return {str(writer): number for writer, number in covered.items() if type(number) is int and number >= 0}
