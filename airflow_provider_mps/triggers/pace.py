"""When the next request may be sent: evenly, inside a budget, and slower after the server has refused one."""

from __future__ import annotations

import math
from collections import deque

SLOWER = 0.7
"""Factor on the rate after a refusal."""
FLOOR = 0.1
"""Part of the budget below which the rate does not fall: somebody must notice that it is calm again."""
RECOVERY = 120.0
"""Seconds of calm in which the rate would climb from nothing to the budget."""
WINDOW = 1.02
"""Seconds that a second lasts here: requests that take differently long to the server shall not meet in one of its."""


class Pace:
    """
    Decides over time alone; it neither sleeps nor reads a clock. All times are seconds of one monotonic clock.

    :param budget: requests a second
    """

    def __init__(self, budget: float) -> None:
        self._slot = -math.inf
        self._slowed_to = math.inf
        self._slowed_at = -math.inf
        self.budget = budget

    @property
    def budget(self) -> float:
        """Requests a second that are never exceeded."""
        return self._budget

    @budget.setter
    def budget(self, budget: float) -> None:
        self._budget = budget
        self._sent: deque[float] = deque(getattr(self, "_sent", ()), maxlen=max(1, math.floor(budget)))

    def rate(self, now: float) -> float:
        """Return the requests a second that are right at ``now``: the budget, unless the server refused some lately."""
        if math.isinf(self._slowed_at):
            return self._budget
        return min(self._budget, self._slowed_to + self._budget * (now - self._slowed_at) / RECOVERY)

    def next_slot(self, now: float) -> float:
        """Return the earliest moment at which the next request may be sent."""
        earliest = self._slot + WINDOW / self.rate(now)
        return max(earliest, self._sent[0] + WINDOW) if len(self._sent) == self._sent.maxlen else earliest

    def sent(self, now: float) -> None:
        """Take note of a request that is sent at ``now``."""
        gap = WINDOW / self.rate(now)
        slot = self._slot + gap
        # What comes a little late keeps its place in the row, so that lateness does not add up; idle time is not saved.
        self._slot = slot if now - slot < gap else now
        self._sent.append(now)

    def refused(self, sent_at: float, now: float) -> None:
        """Take note that the server refused, for too many requests, one that was sent at ``sent_at``."""
        if sent_at < self._slowed_at:
            return  # it was on its way before the last refusal slowed us down
        self._slowed_to = max(self.rate(now) * SLOWER, self._budget * FLOOR)
        self._slowed_at = now
