"""The quota of the API: so many requests in any second, counted as they arrive."""

from __future__ import annotations

from collections import defaultdict, deque


class RateLimit:
    """
    Counts requests by key in a sliding window of one second; refused ones do not count.

    :param per_second: requests that any window of one second may hold
    """

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second
        self._arrivals: defaultdict[str, deque[float]] = defaultdict(deque)

    def admits(self, key: str, now: float) -> bool:
        """Tell whether a request that arrives at ``now``, in seconds of a monotonic clock, is within the quota."""
        arrivals = self._arrivals[key]
        while arrivals and arrivals[0] <= now - 1:
            arrivals.popleft()
        if len(arrivals) >= self.per_second:
            return False
        arrivals.append(now)
        return True
