"""The result manifest beside the audio, ``results.jsonl`` and ``summary.json``: what users read, and runs know."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch.line import STATE_FOLDER
from airflow_provider_mps.batch.objects import read_object, replace_object, write_object
from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.destination import existing_size
from airflow_provider_mps.errors import DestinationError
from airflow_provider_mps.older_airflow import lines_of
from airflow_provider_mps.redaction import cause_of, describe_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from airflow.providers.common.compat.sdk import ObjectStoragePath

_BLOCK = 1024 * 1024
_FORGOTTEN = {LineStatus.PENDING, LineStatus.INVALID}
"""Lines that may be gone from the next result manifest: nothing was paid for them."""


@dataclass(frozen=True)
class Results:
    """
    Where the result manifest of a destination is.

    :param destination: the folder of the audio
    """

    destination: ObjectStoragePath

    @property
    def rows_path(self) -> ObjectStoragePath:
        """One JSON object for each line."""
        return self.destination / "results.jsonl"

    @property
    def summary_path(self) -> ObjectStoragePath:
        """Counts and sums."""
        return self.destination / "summary.json"

    @property
    def journal_path(self) -> ObjectStoragePath:
        """What has happened since the rows were written."""
        return self.destination / STATE_FOLDER / "journal"

    @property
    def ballast_path(self) -> ObjectStoragePath:
        """Room that is kept for what must be written."""
        return self.destination / STATE_FOLDER / "ballast"

    @property
    def lock_path(self) -> ObjectStoragePath:
        """Who is at work."""
        return self.destination / STATE_FOLDER / "lock.json"

    def read_rows(self) -> Iterator[Row]:
        """
        Return the rows that were written last.

        :raises DestinationError: when somebody has spoilt them: without them, what was paid would be paid again
        """
        try:
            file = self.rows_path.open("rb")
        except FileNotFoundError:
            return
        except Exception as error:  # noqa: BLE001 - raised as what it means
            raise self._unreadable(error) from cause_of(error)
        with file:
            try:
                for line in lines_of(file):
                    if line.strip():
                        yield Row.from_json(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise DestinationError(
                    f"{self.rows_path} is no result manifest of this version ({describe_error(error)}). It tells what "
                    "has been paid already: mend it, or remove it to submit all lines anew."
                ) from error
            except Exception as error:  # noqa: BLE001 - raised as what it means
                raise self._unreadable(error) from cause_of(error)

    def require_rows(self, rows: int, summary: Mapping[str, Any]) -> None:
        """
        Refuse a result manifest of which a part is gone.

        :param rows: how many it has
        :param summary: as it was written after it
        :raises DestinationError: when it has fewer lines than the summary tells of
        """
        ended = sum(summary.get(status, 0) for status in LineStatus if status not in _FORGOTTEN)
        if rows < ended and existing_size(self.rows_path) is not None:
            raise DestinationError(
                f"{self.rows_path} has {rows} lines of at least {ended} that {self.summary_path} tells of: a part is "
                "gone. It tells what has been paid already, so nothing was submitted: bring it back. Where lines of it "
                f"were removed to do them again, remove {self.summary_path} too; to submit all lines anew, remove both."
            )

    def write_rows(self, rows: Iterable[Row], before_commit: Callable[[], None] = lambda: None) -> int:
        """
        Write all rows, so that readers see these or the ones before; return how many bytes they have.

        :param before_commit: called last before they become visible; what it raises leaves those before
        """

        def blocks() -> Iterator[bytes]:
            yield from _blocks(rows)
            before_commit()

        return write_object(self.rows_path, blocks(), "application/x-ndjson")

    def read_summary(self) -> dict[str, Any]:
        """
        Return the summary that was written last; empty where there is none.

        :raises DestinationError: when what is there is somebody else's, which would be overwritten
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
                f"{self.summary_path} is none that a batch has written, and would be overwritten: nothing was "
                "submitted. Remove it, or choose another destination."
            )
        return summary

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write the summary."""
        replace_object(self.summary_path, json.dumps(summary, indent=2, ensure_ascii=False).encode() + b"\n")

    def mark_ended(self, run: list[Any], try_number: int) -> None:
        """
        Record that an attempt has failed permanently: only a *clear*, or another run, can follow.

        A clear cannot always be recognised by the task's ``max_tries``, which it may leave as it was.

        :param run: the task instance, as in the summary
        :param try_number: of the attempt
        """
        summary = self.read_summary()
        if summary.get("run") == run and summary.get("finished") and read_object(self.lock_path) is None:
            self.write_summary({**summary, "ended": try_number})

    def _unreadable(self, error: Exception) -> AirflowException:
        return AirflowException(
            f"{self.rows_path} could not be read ({describe_error(error)}): it tells what has been paid "
            "already, so nothing was submitted."
        )


def _blocks(rows: Iterable[Row]) -> Iterator[bytes]:
    block = bytearray()
    for row in rows:
        block += json.dumps(row.to_json(), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        if len(block) >= _BLOCK:
            yield bytes(block)
            block.clear()
    yield bytes(block)
