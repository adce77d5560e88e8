"""The answer of ``DescribeTextToSpeechAsyncTask``, parsed once."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.answer import storable
from airflow_provider_mps.errors import INVALID_RESPONSE, UNKNOWN_STATUS, TextToSpeechTaskFailed, api_error
from airflow_provider_mps.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping


MAX_DEPTH = 20
"""Levels of ``ExtInfo``: each costs whoever stores it several levels of the interpreter's stack."""
_LARGEST = 2**63


class TaskStatus(StrEnum):
    """``Status`` of a text-to-speech task, as the API spells it."""

    SUCCESS = "success"
    FAIL = "fail"
    PROCESSING = "processing"


@dataclass(frozen=True)
class TextToSpeechTask:
    """
    A text-to-speech task as the API described it at one moment.

    https://www.tencentcloud.com/document/product/1041/79696
    """

    task_id: str
    """The MPS ``TaskId``."""
    status: TaskStatus
    """It alone decides: ``error_code`` is 100 while a healthy task is processing."""
    audio_url: str | None = field(default=None, repr=False)
    """Where the audio can be fetched for a while. It may be signed, so it stays out of logs."""
    voice_id: str | None = None
    """The voice that was used."""
    ext_info: dict[str, Any] = field(default_factory=dict)
    """``ExtInfo`` parsed; empty where the API sent none, or nothing that could be read."""
    error_code: int | None = None
    message: str = ""
    request_id: str = ""

    @classmethod
    def from_answer(cls, task_id: str, answer: Mapping[str, Any]) -> TextToSpeechTask:
        """
        Parse the ``Response`` object of an answer about ``task_id``.

        :raises MpsPermanentError: when ``Status`` is none that the API documents
        :raises MpsApiError: when there is no ``Status`` at all
        """
        request_id = _text(answer.get("RequestId")) or ""
        status = answer.get("Status")
        if status is None:
            raise api_error(INVALID_RESPONSE, f"the answer about task {task_id} has no Status", request_id)
        if status not in list(TaskStatus):
            raise api_error(
                UNKNOWN_STATUS,
                f"the Status of task {task_id} is {redact(repr(status)):.100}, which is none of "
                f"{', '.join(TaskStatus)}; it is taken for neither success nor failure",
                request_id,
            )
        return cls(
            task_id=task_id,
            status=TaskStatus(status),
            audio_url=_text(answer.get("AudioUrl")),
            voice_id=_text(answer.get("VoiceId")),
            ext_info=_parse_ext_info(answer.get("ExtInfo")),
            error_code=_integer(answer.get("ErrorCode")),
            message=redact(_text(answer.get("Msg")) or ""),
            request_id=request_id,
        )

    @property
    def duration(self) -> float | None:
        """Length of the audio in seconds; ``None`` where the API did not tell a usable one."""
        seconds = self.ext_info.get("duration")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            return None
        return float(seconds) if seconds >= 0 else None

    def is_ready(self) -> bool:
        """
        Tell whether the audio is ready: ``True`` after success, ``False`` while processing.

        :raises TextToSpeechTaskFailed: when the task has failed
        """
        if self.status is TaskStatus.FAIL:
            raise TextToSpeechTaskFailed(self.task_id, self.error_code, self.message, self.request_id)
        return self.status is TaskStatus.SUCCESS

    def to_xcom(self) -> dict[str, Any]:
        """Return the JSON value that every waiting mode pushes when the task is done."""
        return {
            "TaskId": self.task_id,
            "Status": self.status.value,
            "AudioUrl": self.audio_url,
            "VoiceId": self.voice_id,
            "duration": self.duration,
            "ExtInfo": self.ext_info,
        }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST else None


def _parse_ext_info(value: object) -> dict[str, Any]:
    if not isinstance(value, str):
        return {}
    try:
        # What has no finite value, or more than 64 bits, becomes None: neither a database nor the way from the
        # triggerer takes it, and this value goes into an XCom.
        parsed = json.loads(value, parse_constant=lambda _: None, parse_float=_finite, parse_int=_bounded)
        parsed = storable(parsed)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) and not _is_deeper(parsed, MAX_DEPTH) else {}


def _bounded(number: str) -> int | None:
    return int(number) if len(number) < len(str(_LARGEST)) else None


def _is_deeper(value: object, levels: int) -> bool:
    """Tell whether a value holds others at more levels than so many."""
    if not isinstance(value, dict | list):
        return False
    held = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(inner, levels - 1) for inner in held)


def _finite(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None
