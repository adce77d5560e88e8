"""What a task remembers of its submit, so that another try does not pay for it again."""

from __future__ import annotations

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
    """Airflow's task state store, from 3.3 on: kept over retries, over clears, until its retention ends."""

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
    """Of the task instance then: only a *clear* changes it, so it tells a user's wish from a retry."""
    sent_at: str
    """UTC, in the form of ISO 8601."""
    task_id: str | None = None
    """``None`` until MPS has answered: of a try that was killed before that, nobody knows whether it was accepted."""

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


def first_step(earlier: Submission | None, fingerprint: str, max_tries: int, on_unknown: OnUnknown) -> Step:
    """
    Decide by what is remembered.

    :param earlier: what the last try has stored, if there was one
    :param fingerprint: of what is asked for now
    :param max_tries: of the task instance now
    """
    if earlier is None or earlier.fingerprint != fingerprint:
        return Step.SUBMIT
    if earlier.task_id is not None:
        return Step.RECONNECT
    was_cleared = max_tries != earlier.max_tries
    return Step.SUBMIT if was_cleared or on_unknown is OnUnknown.RESUBMIT else Step.GIVE_UP


def state_store(context: Mapping[str, Any]) -> StateStore | None:
    """Return Airflow's store for the running task; ``None`` before Airflow 3.3."""
    store: StateStore | None = context.get("task_state_store")
    return store


def max_tries_of(context: Mapping[str, Any]) -> int:
    """Return how many retries the task instance has had and will have, in all."""
    tries = getattr(context.get("ti"), "max_tries", None)
    return tries if isinstance(tries, int) else 0


def utc_now() -> str:
    """Return the time, to be read by people and by programs."""
    return datetime.now(UTC).isoformat(timespec="seconds")
