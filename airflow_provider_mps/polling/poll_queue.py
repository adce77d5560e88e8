"""Decide which of many waiters the poll loop polls next, and how soon it polls each one again."""

from __future__ import annotations

import heapq
import itertools
import math
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from contextvars import Context

    from airflow_provider_mps.api.actions import ApiCall
    from airflow_provider_mps.metrics import Metrics
    from airflow_provider_mps.polling.event import LastSeen
    from airflow_provider_mps.polling.intervals import PollInterval
    from airflow_provider_mps.speech.task import MpsTask

REPEAT_AGE_FRACTION = 0.1
"""A busy loop polls an unfinished task again after this fraction of its age, so that slow tasks do not delay others."""
HEAD_START_CYCLES = 0.75
"""The head start of an unfinished task over newer ones, as a share of the cycle. With more, many slow tasks delay quick
ones behind them; with less, new tasks are polled too early."""
MAX_STALE_ENTRIES = 100
"""Entries of removed waiters, beyond the number of waiters, at which the queue is rebuilt."""


@dataclass(slots=True, eq=False)
class Waiter:
    """
    A caller that waits for one task. Times are seconds on the event loop's clock.

    :param due: when to poll next
    :param oldest_first_since: when the wait began, for a waiter of the kind that is polled oldest first
    """

    call: ApiCall[MpsTask]
    interval: PollInterval
    due: float
    outcome: asyncio.Future[MpsTask | Exception]
    last_seen: LastSeen
    oldest_first_since: float | None = None
    polls: int = 0
    """Number of ``processing`` responses."""
    errors: int = 0
    """Number of errors since the last response."""
    head_start: float = math.inf
    """A waiter that is polled oldest first counts as begun no earlier than this many seconds before it is due."""
    metrics: Metrics | None = None
    """Where the outcome of each poll is counted; ``None``: in the metrics of the poller's hook."""
    context: Context = field(default_factory=copy_context)
    """The caller's context, so that a warning about its task goes to its log, e.g. that of a trigger."""

    @property
    def rank(self) -> tuple[bool, float]:
        """The place among all waiters that are due: the lowest is polled first."""
        if self.oldest_first_since is None:
            return (False, self.due)
        return (True, max(self.oldest_first_since, self.due - self.head_start))

    def finish(self, outcome: MpsTask | Exception) -> None:
        """End the wait, unless it has ended."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def delay_after_poll(self, polled_at: float, cycle: float, fraction: float) -> float:
        """
        Return the seconds until the next poll, after a ``processing`` response.

        :param cycle: seconds in which the rate limit allows one poll of each waiting task
        :param fraction: random number from 0 to 1
        """
        delay = self.interval.delay_after_polls(self.polls, fraction)
        if self.oldest_first_since is None:
            return delay
        return max(delay, min(cycle, REPEAT_AGE_FRACTION * (polled_at - self.oldest_first_since)))


class PollQueue:
    """The waiters of one poll loop, in the order in which to poll them."""

    def __init__(self) -> None:
        self.waiters: set[Waiter] = set()
        self._sequence = itertools.count()
        self._later: list[tuple[float, int, Waiter]] = []
        """A heap of waiters that are not due, the earliest due first."""
        self._due: list[tuple[tuple[bool, float], int, Waiter]] = []
        """A heap of waiters that are due, the lowest rank first. Both may contain removed waiters."""

    def push(self, waiter: Waiter, due: float) -> None:
        """Poll a waiter again at ``due``, unless it has been removed."""
        if waiter in self.waiters:
            waiter.due = due
            heapq.heappush(self._later, (due, next(self._sequence), waiter))

    def add(self, waiter: Waiter) -> None:
        """Add a waiter, to be polled when it is due."""
        self.waiters.add(waiter)
        self.push(waiter, waiter.due)

    def remove(self, waiter: Waiter) -> None:
        """Remove a waiter for good."""
        self.waiters.discard(waiter)
        if len(self._later) + len(self._due) > 2 * len(self.waiters) + MAX_STALE_ENTRIES:
            self._later = [entry for entry in self._later if entry[2] in self.waiters]
            self._due = [entry for entry in self._due if entry[2] in self.waiters]
            heapq.heapify(self._later)
            heapq.heapify(self._due)

    def next_due(self, now: float) -> float | None:
        """Return when the next waiter is due, which may be past; ``None`` without waiters to poll."""
        while self._later and (self._later[0][0] <= now or self._later[0][2] not in self.waiters):
            _, number, waiter = heapq.heappop(self._later)
            heapq.heappush(self._due, (waiter.rank, number, waiter))
        while self._due and self._due[0][2] not in self.waiters:
            heapq.heappop(self._due)
        if self._due:
            return self._due[0][2].due
        return self._later[0][0] if self._later else None

    def pop(self) -> Waiter:
        """Remove and return the waiter to poll next; requires that :meth:`next_due` has returned a time in the past."""
        return heapq.heappop(self._due)[2]

    def __len__(self) -> int:
        return len(self._later) + len(self._due)
