"""How long to wait until the next question: pure functions of what has happened so far, and of chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_mps.errors import InvalidRequestError
from airflow_provider_mps.redaction import quoted

if TYPE_CHECKING:
    from datetime import timedelta

LONGEST_BACKOFF = 30.0
"""Seconds that errors alone may hold a task back: what comes up again shall be noticed soon."""
SPREAD = 0.25
"""Part of an interval by which rescheduled pokes are spread."""
SHORT = 10.0
"""Seconds of an interval below which spreading only lengthens it: Airflow fails what it queues again too soon."""
MAX_DOUBLINGS = 40
"""Far more than any waiting lasts."""


@dataclass(frozen=True, slots=True)
class PollInterval:
    """
    The pace at which one task is asked for.

    :param seconds: between two questions
    :param exponential_backoff: double it with every answer, with jitter, as Airflow's sensors do
    :param max_wait: seconds that doubling never exceeds
    :raises InvalidRequestError: when one of them is no number of seconds
    """

    seconds: float
    exponential_backoff: bool = False
    max_wait: float | None = None

    def __post_init__(self) -> None:
        for seconds in (self.seconds, 0.0 if self.max_wait is None else self.max_wait):
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
                raise InvalidRequestError(f"{quoted(seconds)} is no number of seconds to wait between two questions.")

    def after_answers(self, answers: int, chance: float) -> float:
        """
        Return the seconds until the next question after ``answers`` that said *processing*.

        :param chance: from 0 to 1
        """
        if not self.exponential_backoff:
            return self.seconds
        wait = self.seconds * 2.0 ** (min(answers, MAX_DOUBLINGS) - 2) * (1 + chance)
        return wait if self.max_wait is None else min(wait, self.max_wait)

    def after_errors(self, errors: int, chance: float) -> float:
        """
        Return the seconds until the next question after ``errors`` in a row that may pass.

        :param chance: from 0 to 1
        """
        longest = min(max(self.seconds, 1.0) * 2.0 ** min(errors, MAX_DOUBLINGS), LONGEST_BACKOFF)
        return self.seconds + chance * max(longest - self.seconds, 0.0)


def spread(interval: float, chance: float, *, throttled: bool) -> float:
    """
    Return an interval changed by chance, so that sensors that started together drift apart.

    Its mean stays the interval, unless that is short; after a refusal for too many requests it is up to twice as long.

    :param interval: seconds
    :param chance: from 0 to 1
    """
    if throttled:
        return interval * (1 + chance)
    return max(interval * (1 + SPREAD * (2 * chance - 1)), min(interval, SHORT))


@dataclass(frozen=True, slots=True)
class Limit:
    """The argument that ends a wait first."""

    name: str
    seconds: float
    """From the start of the attempt."""

    def __str__(self) -> str:
        return f"{self.name} ({self.seconds:g} s)"


def earlier_limit(timeout: float, execution_timeout: timedelta | None) -> Limit:
    """
    Return the one of a task's two limits that ends first.

    :param timeout: seconds; infinity where there is none
    :param execution_timeout: as Airflow takes it; zero means none, as it does to Airflow
    """
    if execution_timeout and execution_timeout.total_seconds() <= timeout:
        return Limit("execution_timeout", execution_timeout.total_seconds())
    return Limit("timeout", timeout)
