"""A line of the result manifest: what has become of one line of the manifest so far."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class LineStatus(StrEnum):
    """How far a line is."""

    PENDING = "pending"
    """It was not submitted, or provably not accepted."""
    SUBMITTING = "submitting"
    """It is being sent; where this is found afterwards, nobody knows whether MPS accepted it."""
    PROCESSING = "processing"
    """MPS has accepted it, and works at it or has finished it."""
    STORED = "stored"
    """Its audio is at its path."""
    UNSTORED = "unstored"
    """MPS has finished it, and its audio could not be stored."""
    FAILED = "failed"
    """MPS has failed it, or does not know it any more."""
    REFUSED = "refused"
    """MPS did not accept it, for a reason that no other try can mend."""
    INVALID = "invalid"
    """It cannot be submitted as it is."""
    UNKNOWN = "unknown"
    """It may have been accepted, and may be billed."""


PROBLEMS = (
    LineStatus.INVALID,
    LineStatus.REFUSED,
    LineStatus.FAILED,
    LineStatus.UNSTORED,
    LineStatus.UNKNOWN,
)
"""What ends a line without audio, for now."""
_NUMBERS = {"line", "duration", "size", "characters"}
_LARGEST = 2**63
"""What a database can hold."""
_SPELLED = {"task_id": "TaskId", "voice_id": "VoiceId"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line; ``None`` for what is not known (yet)."""

    id: str | None
    """As in the manifest; ``None`` of an invalid line that has none of its own."""
    line: int | None
    """Its number in the manifest, from 1; ``None`` of what an earlier manifest had and this one has not."""
    status: LineStatus
    task_id: str | None = None
    """The MPS ``TaskId``."""
    path: str | None = None
    """Where its audio is stored."""
    voice_id: str | None = None
    duration: float | None = None
    """Seconds of audio."""
    size: int | None = None
    """Bytes."""
    crc64: str | None = None
    """CRC-64/XZ in decimal digits: as a number, many a reader of JSON would round it."""
    characters: int | None = None
    """Of its text."""
    error: str | None = None
    """Why there is no audio."""
    request: str | None = None
    """A fingerprint of the text and of how it is to be spoken, by which a changed line is known."""
    sent_at: str | None = None
    """UTC; when it was submitted."""

    @property
    def key(self) -> str:
        """What no other row has."""
        return f"line {self.line}" if self.id is None or self.status is LineStatus.INVALID else f"id {self.id}"

    def now(self, status: LineStatus, **changed: Any) -> Row:
        """Return the row as it is with another status; an error is forgotten unless it is given anew."""
        return replace(self, status=status, **{"error": None, **changed})

    def to_json(self) -> dict[str, Any]:
        """Return it as it is written, by the API's names for what is the API's."""
        return {_SPELLED.get(field.name, field.name): getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Row:
        """
        Read what :meth:`to_json` wrote; what a later version may have added is left out.

        :raises ValueError: when it is none
        """
        try:
            known: dict[str, Any] = {
                field.name: written.get(_SPELLED.get(field.name, field.name)) for field in fields(cls)
            }
            row = cls(**{**known, "status": LineStatus(written["status"])})
        except (KeyError, AttributeError, TypeError) as error:
            raise ValueError("it has a line that is no row of one") from error
        if not row._is_possible():
            raise ValueError("it has a line that is no row of one")
        return row

    def _is_possible(self) -> bool:
        """Tell whether this could have been written by a batch, and not by who mended something by hand."""
        for each in fields(self):
            value = getattr(self, each.name)
            if value is None or isinstance(value, LineStatus):
                continue
            if each.name in _NUMBERS:
                if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LARGEST:
                    return False
            elif not isinstance(value, str):
                return False
        return self.task_id is not None or self.status not in {LineStatus.PROCESSING, LineStatus.UNSTORED}
