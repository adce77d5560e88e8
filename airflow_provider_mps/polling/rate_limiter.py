"""Space requests evenly within a rate limit, and more widely after the server has throttled one."""

from __future__ import annotations

import math
from collections import deque

THROTTLE_FACTOR = 0.7
MIN_RATE_FRACTION = 0.1
"""Lowest rate after throttling, as a fraction of the rate limit."""
RECOVERY_SECONDS = 120.0
"""Seconds without throttling in which the rate would rise from zero to the rate limit."""
WINDOW_SECONDS = 1.0
"""Window of the rate limit. Latency varies, so the server may see more in a second: the limit is below the quota."""


class RateLimiter:
    """Decide from times alone; it neither sleeps nor reads a clock. Times are seconds on one monotonic clock."""

    def __init__(self, requests_per_second: float) -> None:
        self._last_slot = -math.inf
        self._first_slot: float | None = None  # of the first request after idle time, until it is sent
        self._slow_rate = math.inf
        self._slowed_at = -math.inf
        self._sent: deque[float] = deque()
        self.requests_per_second = requests_per_second
        """The rate limit, which is never exceeded."""

    def get_rate(self, now: float) -> float:
        """Return the requests per second to send at ``now``: the rate limit, unless it was throttled recently."""
        if math.isinf(self._slowed_at):
            return self.requests_per_second
        recovered = self.requests_per_second * (now - self._slowed_at) / RECOVERY_SECONDS
        return min(self.requests_per_second, self._slow_rate + recovered)

    def next_send_time(self, now: float) -> float:
        """Return the earliest time at which the next request may be sent."""
        earliest = self._last_slot + 1 / self.get_rate(now)
        limit = max(1, math.floor(self.requests_per_second))
        while len(self._sent) > limit:
            self._sent.popleft()
        return max(earliest, self._sent[0] + WINDOW_SECONDS) if len(self._sent) == limit else earliest

    def record_request(self, now: float) -> None:
        """Record a request that is sent at ``now``."""
        gap = 1 / self.get_rate(now)
        slot = self._last_slot + gap
        # A request that is a little late keeps its slot, so that delays do not add up. Idle time is not saved.
        if now - slot < gap:
            self._last_slot = slot
        else:
            self._last_slot = self._first_slot = now
        self._sent.append(now)

    def record_sending(self, slot: float, now: float) -> None:
        """Record that a request with a slot is sent; later slots keep their distance from the first after idle time."""
        if slot == self._first_slot:
            self._last_slot += max(0.0, now - slot)
            self._first_slot = None

    def record_throttle(self, sent_at: float, now: float) -> None:
        """Record that the server throttled a request sent at ``sent_at``."""
        if sent_at < self._slowed_at:
            return  # it was in flight before the rate was lowered
        self._slow_rate = max(self.get_rate(now) * THROTTLE_FACTOR, self.requests_per_second * MIN_RATE_FRACTION)
        self._slowed_at = now
