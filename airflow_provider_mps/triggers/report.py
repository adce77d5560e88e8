"""What the log says, now and then, of how the waiting goes, and what an error at a deadline says."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime

log = logging.getLogger(__name__)

TELL_EVERY = 60.0
"""Seconds between two lines."""


@dataclass
class Report:
    """
    Counts what happened since the last line.

    :param mps_conn_id: the connection
    :param since: when it began, on the clock that :meth:`tell` is given
    """

    mps_conn_id: str
    since: float
    requests: int = 0
    throttled: int = 0

    def tell(self, now: float, waiting: int, budget: float) -> None:
        """Log a line, unless the last one was a moment ago."""
        seconds = now - self.since
        if seconds < TELL_EVERY:
            return
        log.info(
            "Connection '%s': %s tasks are waiting; in the last %.0f seconds %.1f requests a second of a budget of %g, "
            "%s of them throttled",
            self.mps_conn_id,
            waiting,
            seconds,
            self.requests / seconds,
            budget,
            self.throttled,
        )
        self.since, self.requests, self.throttled = now, 0, 0


@dataclass
class LastSeen:
    """
    Keeps the latest results of polling one task, for the error at a deadline. Times are seconds since 1970.

    :param since: when the wait began; ``None`` where that is unknown
    """

    since: float | None = None
    processing_at: float | None = None
    error_at: float | None = None
    error: str = ""

    def note_processing(self) -> None:
        """Note a response with the status ``processing``."""
        self.processing_at = time.time()

    def note_error(self, at: float, error: str) -> None:
        """Note why a poll failed, or could not be made."""
        if self.error_at is None or at >= self.error_at:
            self.error_at, self.error = at, error

    def describe(self, mps_task_id: str) -> str:
        """Return one sentence, without its period, to which the name of the limit that ended can be added."""
        if self.error_at is not None and self.error_at >= (self.processing_at or 0.0):
            before = f"was processing at {_utc(self.processing_at)} and " if self.processing_at else ""
            since = " since" if self.processing_at else ""
            last_error = f"last error at {_utc(self.error_at)}: {self.error.rstrip('.')}"
            return f"Task {mps_task_id} {before}could not be polled{since} ({last_error})"
        if self.processing_at is not None:
            return f"Task {mps_task_id} was still processing at {_utc(self.processing_at)}"
        return f"Task {mps_task_id} was never polled" + (f" after {_utc(self.since)}" if self.since else "")


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
