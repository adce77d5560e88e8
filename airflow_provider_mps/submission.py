"""What a task remembers of its submit, so that another try does not pay for it again."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_mps.choice import OnUnknown

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = "mps_submission"
"""In Airflow's task state store; another one would not find what running tasks have stored."""


class StateStore(Protocol):
    """
    Airflow's task state store, from 3.3 on.

    It is kept over retries until its retention ends. Airflow 3.3 keeps it over a clear, too; later versions may discard
    it then (apache/airflow#72100).
    """

    def get(self, key: str, default: Any = None) -> Any:
        """Return what was set."""

    def set(self, key: str, value: Any) -> None:
        """Keep a JSON value."""

    def delete(self, key: str) -> None:
        """Forget it."""


@dataclass(frozen=True)
class Submission:
    """One submit, from just before it is sent."""

    fingerprint: str
    """Of what was asked for."""
    max_tries: int
    """Of the task instance then. Only a *clear* changes it, but may leave it as it is where ``retries`` has changed."""
    sent_at: str
    """UTC, in the form of ISO 8601."""
    task_id: str | None = None
    """``None`` until MPS has responded: if the attempt is killed before that, the outcome is unknown."""
    has_ended: bool = False
    """Whether its attempt has failed permanently, which Airflow does not retry: only a *clear* can follow."""

    @classmethod
    def beginning(cls, fingerprint: str, max_tries: int) -> Submission:
        """Return what to remember before it is sent."""
        return cls(fingerprint, max_tries, utc_now())

    @classmethod
    def recalled(cls, store: StateStore) -> Submission | None:
        """Return what an earlier try has stored; ``None`` where there is nothing that can be read."""
        stored = store.get(KEY)
        if not isinstance(stored, dict):
            return None
        known = {field.name: stored[field.name] for field in fields(cls) if field.name in stored}
        try:
            return cls(**known)  # a later version may have stored more
        except TypeError:
            return None

    def was_cleared(self, max_tries: int, try_number: int) -> bool:
        """
        Return whether a user has cleared the task since this submit.

        :param max_tries: of the task instance now
        :param try_number: of the attempt now, from 1; 0 if it is unknown
        """
        return self.has_ended or max_tries != self.max_tries or try_number > self.max_tries + 1

    def remember(self, store: StateStore) -> None:
        """Store it for the next try."""
        store.set(KEY, asdict(self))


class Step(Enum):
    """What a try does first."""

    SUBMIT = auto()
    RECONNECT = auto()
    """Go on with the task that an earlier try has submitted."""
    GIVE_UP = auto()
    """An earlier try may have submitted, and nobody shall risk to pay twice."""


def first_step(
    earlier: Submission | None, fingerprint: str, max_tries: int, on_unknown: OnUnknown, *, try_number: int = 0
) -> Step:
    """
    Decide by what is remembered.

    :param earlier: what an earlier attempt has stored, if there was one
    :param fingerprint: of the request now
    :param max_tries: of the task instance now
    :param on_unknown: what to do if the earlier outcome is unknown
    :param try_number: of the attempt now, from 1; 0 if it is unknown
    """
    if earlier is None:
        return Step.SUBMIT
    if earlier.task_id is None:
        # Whatever the fingerprint: a template such as {{ now }} differs at each attempt.
        is_wanted = on_unknown is OnUnknown.RESUBMIT or earlier.was_cleared(max_tries, try_number)
        return Step.SUBMIT if is_wanted else Step.GIVE_UP
    return Step.RECONNECT if earlier.fingerprint == fingerprint else Step.SUBMIT


def state_store(context: Mapping[str, Any]) -> StateStore | None:
    """Return Airflow's store for the running task; ``None`` before Airflow 3.3."""
    store: StateStore | None = context.get("task_state_store")
    return store


def max_tries_of(context: Mapping[str, Any]) -> int:
    """Return how many retries the task instance has had and will have, in all."""
    tries = getattr(context.get("ti"), "max_tries", None)
    return tries if isinstance(tries, int) else 0


def try_number_of(context: Mapping[str, Any]) -> int:
    """Return the number of the running attempt, from 1; 0 if it is unknown."""
    number = getattr(context.get("ti"), "try_number", None)
    return number if isinstance(number, int) else 0


def started_at(context: Mapping[str, Any]) -> float:
    """Return when the running attempt started, in seconds since 1970: deferrals belong to it."""
    now, start = time.time(), getattr(context.get("ti"), "start_date", None)
    return min(now, start.timestamp()) if isinstance(start, datetime) else now


def utc_now() -> str:
    """Return the time, to be read by people and by programs."""
    return datetime.now(UTC).isoformat(timespec="seconds")
