"""What the task state store holds about a submit, and what a later attempt does with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_mps.speech.parsing import OnUnknown

if TYPE_CHECKING:
    from collections.abc import Mapping

STATE_KEY = "mps_submission"
"""Key of the record of a text in the task state store. Running tasks have stored it, so it must not change."""


@dataclass(frozen=True)
class SubmitRecord:
    """What the task state store holds about one submit, written just before the request is sent."""

    fingerprint: str
    """Fingerprint of the request, the connection and the region."""
    max_tries: int
    """``max_tries`` at that time. Only a clear changes it, but a clear after a change of ``retries`` may not."""
    sent_at: str
    """UTC, in ISO 8601."""
    task_id: str | None = None
    """``None`` until MPS has responded: if the attempt is killed before that, the outcome is unknown."""
    has_ended: bool = False
    """Whether the attempt failed permanently, so that Airflow does not retry it: only a clear can follow."""
    voice_id: str | None = None
    """VoiceId that the ``voice_name`` of a text had; ``None`` if the text named its voice by the VoiceId."""

    @classmethod
    def start(cls, fingerprint: str, max_tries: int) -> Self:
        """Return the record of a request that is about to be sent."""
        return cls(fingerprint, max_tries, format_utc_now())

    @classmethod
    def load(cls, store: Any, key: str = STATE_KEY) -> Self | None:
        """Return the record of an earlier attempt; ``None`` if there is no store or no readable record."""
        stored = store.get(key) if store else None
        if not isinstance(stored, dict):
            return None
        # A later version may have stored more fields.
        known = {field.name: stored[field.name] for field in fields(cls) if field.name in stored}
        try:
            return cls(**known)
        except TypeError:
            return None

    def save(self, store: Any, key: str = STATE_KEY) -> None:
        """Store the record for the next attempt."""
        store.set(key, asdict(self))

    def was_cleared(self, max_tries: int, try_number: int) -> bool:
        """Return whether a user has cleared the task since, by its current numbers (``try_number`` 0: unknown)."""
        return self.has_ended or max_tries != self.max_tries or try_number > self.max_tries + 1


class SubmitDecision(Enum):
    """What an attempt does first."""

    SUBMIT = auto()
    RECONNECT = auto()
    """Continue with the task that an earlier attempt submitted."""
    FAIL = auto()
    """An earlier attempt may have submitted, and submitting again may be billed twice."""


def decide(earlier: SubmitRecord, fingerprint: str, on_unknown: OnUnknown, *, was_cleared: bool) -> SubmitDecision:
    """Decide from the record of an ``earlier`` attempt, and from the ``fingerprint`` of the request now."""
    if earlier.task_id is None:
        # The fingerprint does not matter: a template with the current time renders differently in each attempt.
        can_resubmit = was_cleared or on_unknown is OnUnknown.RESUBMIT
        return SubmitDecision.SUBMIT if can_resubmit else SubmitDecision.FAIL
    return SubmitDecision.RECONNECT if earlier.fingerprint == fingerprint else SubmitDecision.SUBMIT


def get_max_tries(context: Mapping[str, Any]) -> int:
    """Return ``max_tries`` of the task instance, which a clear usually raises and a retry never does; 0 if unknown."""
    max_tries = getattr(context.get("ti"), "max_tries", None)
    return max_tries if isinstance(max_tries, int) else 0


def format_utc_now() -> str:
    """Return the current time in UTC, in ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
