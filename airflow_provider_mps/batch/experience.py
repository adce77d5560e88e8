"""How long MPS takes for a line, as far as this batch has seen: who is asked for too early is asked for nothing."""

from __future__ import annotations

import statistics
from collections import deque

REMEMBERED = 100
"""Lines."""
EARLIER = 0.9
"""What is noticed can only be late: without this, each question would come later than the one before."""


class Experience:
    """
    Learns when to ask for a line first.

    A question about a line that MPS still works at uses up the budget of one that is done. To notice a few seconds
    later costs a batch nothing, but for its last lines.
    """

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)

    def took(self, seconds: float) -> None:
        """Take note of how long after its submit a line was found to be done."""
        self._seconds.append(seconds)

    def first_question_after(self, interval: float) -> float:
        """
        Return the seconds after a submit at which every other line is done; an interval, while nothing is known.

        :param interval: seconds between two questions
        """
        if not self._seconds:
            return interval
        return max(interval, EARLIER * statistics.median(self._seconds))
