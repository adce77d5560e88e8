"""A row of the result manifest: the state of one manifest line."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class LineStatus(StrEnum):
    """The state of a manifest line."""

    PENDING = "pending"  # not submitted, or certainly not accepted by MPS
    SUBMITTING = "submitting"  # about to be sent; for a later run, the outcome is unknown
    PROCESSING = "processing"  # accepted by MPS; its audio is not stored yet
    STORED = "stored"  # the audio is stored at ``path``
    STORE_FAILED = "store_failed"  # finished by MPS, but storing its audio failed
    FAILED = "failed"  # failed by MPS, or MPS no longer knows the task
    REJECTED = "rejected"  # rejected by MPS permanently
    INVALID = "invalid"  # cannot be submitted until the manifest is fixed
    UNKNOWN = "unknown"  # the outcome of the submit is unknown; the line may be billed

    @classmethod
    def _missing_(cls, value: object) -> LineStatus | None:
        return LEGACY_STATUSES.get(str(value))


LEGACY_STATUSES = {"unstored": LineStatus.STORE_FAILED, "refused": LineStatus.REJECTED}
"""Names in the result manifest and the summary of version 1.0 that have changed since."""
PROBLEM_STATUSES = (
    LineStatus.INVALID,
    LineStatus.REJECTED,
    LineStatus.FAILED,
    LineStatus.STORE_FAILED,
    LineStatus.UNKNOWN,
)
"""Statuses of lines that ended without audio."""
_NUMBER_FIELDS = {"line", "duration", "size", "characters", "start", "end"}
_NUMBER_LIMIT = 2**63
_JSON_NAMES = {"task_id": "TaskId", "voice_id": "VoiceId"}


@dataclass(frozen=True, slots=True)
class Row:
    """The state of one line; a field is ``None`` while it is unknown."""

    id: str | None  # ``None`` for an invalid line without a usable id
    line: int | None  # line number in the manifest, from 1; ``None`` for a line of an earlier manifest only
    status: LineStatus
    task_id: str | None = None
    path: str | None = None
    voice_id: str | None = None
    duration: float | None = None  # seconds of audio
    size: int | None = None  # bytes of audio
    crc64: str | None = None  # CRC-64/XZ in decimal digits; as a JSON number, many readers would round it
    characters: int | None = None  # of the text
    error: str | None = None  # why there is no audio
    request: str | None = None  # fingerprint of the text and of all speech options
    sent_at: str | None = None  # when the line was submitted, in UTC
    start: float | None = None  # seconds; when the line begins in a track, e.g. the cue of a subtitle file
    end: float | None = None  # seconds
    text_hash: str | None = None  # of the text, to recognize it in the manifest

    @property
    def key(self) -> str | int | None:
        """The id; for an invalid line its line number, so that it does not replace an earlier result of its id."""
        return self.line if self.id is None or self.status is LineStatus.INVALID else self.id

    def with_status(self, status: LineStatus, **changes: Any) -> Row:
        """Return a copy with another status and other changes; the error is cleared unless ``changes`` has one."""
        return replace(self, status=status, **{"error": None, **changes})

    def to_json(self) -> dict[str, Any]:
        """Return the row as a JSON object; API values have the API's names."""
        return {_JSON_NAMES.get(field.name, field.name): getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Row:
        """
        Read what :meth:`to_json` or version 1.0 wrote; fields of later versions are ignored.

        :raises ValueError: when ``data`` is not a row
        """
        with suppress(KeyError, AttributeError, TypeError):
            values: dict[str, Any] = {
                field.name: data.get(_JSON_NAMES.get(field.name, field.name)) for field in fields(cls)
            }
            row = cls(**{**values, "status": LineStatus(data["status"])})
            if row._is_valid():
                return row
        raise ValueError("a line is not a row of a result manifest")

    def _is_valid(self) -> bool:
        """Return whether all values are possible; a manually edited file may have others."""
        for field in fields(self):
            value = getattr(self, field.name)
            is_number = type(value) in {int, float} and 0 <= value < _NUMBER_LIMIT
            if value is not None and not (is_number if field.name in _NUMBER_FIELDS else isinstance(value, str)):
                return False
        return self.task_id is not None or self.status not in {LineStatus.PROCESSING, LineStatus.STORE_FAILED}


def make_duplicate_row(line_id: str, line: int, known: Row | None) -> Row | None:
    """Return an invalid row if ``known``, the row of this id, is of an earlier line of the manifest; else ``None``."""
    if known is None or known.line is None:
        return None
    error = f"the id {line_id!r} is already used by line {known.line}."
    return Row(line_id, line, LineStatus.INVALID, error=error)
