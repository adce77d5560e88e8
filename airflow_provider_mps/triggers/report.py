"""What the log says, now and then, of how the waiting goes."""

from __future__ import annotations

import logging
from dataclasses import dataclass

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
