"""How long to wait: poll intervals, backoff, jitter, the grace period of credentials and the limits of a wait."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.redaction import quote_value

if TYPE_CHECKING:
    from datetime import timedelta

MAX_BACKOFF_SECONDS = 30.0
"""Longest backoff after errors: the end of an outage should be noticed soon."""
JITTER_FRACTION = 0.25
"""Largest part of an interval that jitter adds or subtracts."""
MIN_JITTERED_SECONDS = 10.0
"""Jitter does not shorten an interval below this: Airflow fails a task that it queues again too soon."""
MAX_DOUBLINGS = 40
"""Limit of the exponent of a backoff, so that it cannot overflow; no wait needs more."""
ROTATION_GRACE_SECONDS = 300.0
"""How long MPS may reject credentials that have worked in this process: their key may be in rotation."""
FIRST_USE_GRACE_SECONDS = 30.0
"""How long MPS may reject credentials that have not worked in this process: they are probably wrong."""


@dataclass(frozen=True, slots=True)
class PollInterval:
    """
    The interval between two polls of one task. A ``fraction`` is a random number from 0 to 1, for the jitter.

    :param seconds: between two polls
    :param exponential_backoff: double the interval with every poll, with jitter, as Airflow's sensors do
    :param max_wait: longest interval in seconds with exponential backoff; ``None``: no maximum
    :raises InvalidRequestError: if an interval is not a finite number of seconds from 0
    """

    seconds: float
    exponential_backoff: bool = False
    max_wait: float | None = None

    def __post_init__(self) -> None:
        for seconds in (self.seconds, 0.0 if self.max_wait is None else self.max_wait):
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
                raise InvalidRequestError(f"{quote_value(seconds)} is not a number of seconds between two polls.")

    def delay_after_polls(self, polls: int, fraction: float) -> float:
        """Return the seconds until the next poll, after so many ``processing`` responses."""
        if not self.exponential_backoff:
            return self.seconds
        delay = self.seconds * 2.0 ** (min(polls, MAX_DOUBLINGS) - 2) * (1 + fraction)
        return delay if self.max_wait is None else min(delay, self.max_wait)

    def delay_after_errors(self, errors: int, fraction: float) -> float:
        """Return the seconds until the next attempt, after so many transient errors in a row."""
        longest = min(max(self.seconds, 1.0) * 2.0 ** min(errors, MAX_DOUBLINGS), MAX_BACKOFF_SECONDS)
        return self.seconds + fraction * max(longest - self.seconds, 0.0)


def add_jitter(interval: float, fraction: float, *, throttled: bool) -> float:
    """
    Return an interval with jitter, so that sensors that started together spread out.

    The mean stays the interval, unless that is short. After a throttled poke the result is up to twice as long.

    :param fraction: random number from 0 to 1
    """
    if throttled:
        return interval * (1 + fraction)
    return max(interval * (1 + JITTER_FRACTION * (2 * fraction - 1)), min(interval, MIN_JITTERED_SECONDS))


class CredentialGracePeriod:
    """Measure for how long MPS has rejected the credentials. Times are seconds on one monotonic clock."""

    def __init__(self) -> None:
        self.has_worked = False
        self.rejected_since: float | None = None

    def record_acceptance(self) -> None:
        """Record that MPS accepted the credentials."""
        self.has_worked, self.rejected_since = True, None

    def record_rejection(self, now: float) -> float:
        """Record that MPS rejected the credentials, and return the seconds left of the grace period."""
        if self.rejected_since is None:
            self.rejected_since = now
        seconds = ROTATION_GRACE_SECONDS if self.has_worked else FIRST_USE_GRACE_SECONDS
        return self.rejected_since + seconds - now


@dataclass(frozen=True, slots=True)
class Limit:
    """The argument that ends a wait first."""

    name: str
    seconds: float
    """From the start of the attempt."""

    def __str__(self) -> str:
        return f"{self.name} ({self.seconds:g} s)"


def get_earlier_limit(timeout: float, execution_timeout: timedelta | None) -> Limit:
    """
    Return the earlier of a task's two limits.

    :param timeout: seconds; infinity for none
    :param execution_timeout: as Airflow takes it; zero means none, as in Airflow
    """
    if execution_timeout and execution_timeout.total_seconds() <= timeout:
        return Limit("execution_timeout", execution_timeout.total_seconds())
    return Limit("timeout", timeout)
