"""Tasks of MPS: the responses of ``DescribeTextToSpeechAsyncTask`` and ``DescribeDesignTask``."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Self

from airflow_provider_mps.error_codes import INVALID_RESPONSE, UNKNOWN_STATUS
from airflow_provider_mps.exceptions import (
    AudioTransferError,
    TextToSpeechTaskFailed,
    VoiceDesignTaskFailed,
    make_api_error,
)
from airflow_provider_mps.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_mps.exceptions import MpsTaskFailed

MAX_DEPTH = 20
"""Levels of ``ExtInfo``: Airflow serializes an XCom recursively, with several calls per level."""
_INTEGER_LIMIT = 2**63


class TaskStatus(StrEnum):
    """``Status`` of a task, as the API spells it."""

    SUCCESS = "success"
    FAIL = "fail"
    PROCESSING = "processing"


@dataclass(frozen=True)
class MpsTask:
    """A task as the API described it at one moment."""

    failure: ClassVar[type[MpsTaskFailed]]
    """The error for the status ``fail``."""

    task_id: str
    """The MPS ``TaskId``."""
    status: TaskStatus
    """The only field that says whether the task is done: ``error_code`` is 100 while a healthy task is processing."""
    audio_url: str | None = field(default=None, repr=False)
    """The URL of the audio, which expires. It may be signed, so it is not in the repr or in logs."""
    voice_id: str | None = None
    ext_info: dict[str, Any] = field(default_factory=dict)
    """``ExtInfo``, parsed; empty if it is missing or invalid."""
    error_code: int | None = None
    message: str = ""
    request_id: str = ""

    @classmethod
    def from_response(cls, task_id: str, response: Mapping[str, Any]) -> Self:
        """
        Parse the ``Response`` object about a task.

        :param task_id: the MPS ``TaskId``; the response does not repeat it
        :raises MpsPermanentError: if the API does not document the ``Status``
        :raises MpsApiError: if there is no ``Status``
        """
        request_id = _get_text(response.get("RequestId")) or ""
        status = response.get("Status")
        if status is None:
            raise make_api_error(INVALID_RESPONSE, f"the response about task {task_id} has no Status", request_id)
        if status not in list(TaskStatus):
            raise make_api_error(
                UNKNOWN_STATUS,
                f"the Status of task {task_id} is {redact(repr(status)):.100}, not one of {', '.join(TaskStatus)}; "
                "it is treated as neither success nor failure",
                request_id,
            )
        return cls(
            task_id=task_id,
            status=TaskStatus(status),
            audio_url=_get_text(response.get("AudioUrl")),
            voice_id=_get_text(response.get("VoiceId")),
            ext_info=parse_ext_info(response.get("ExtInfo")),
            error_code=_get_integer(response.get("ErrorCode")),
            message=redact(_get_text(response.get("Msg")) or ""),
            request_id=request_id,
        )

    @property
    def duration(self) -> float | None:
        """Length of the audio in seconds; ``None`` if the response has no usable one."""
        return get_duration(self.ext_info)

    @property
    def is_done(self) -> bool:
        """Whether MPS has finished the task, with success or failure."""
        return self.status is not TaskStatus.PROCESSING

    def raise_for_status(self) -> None:
        """
        Raise an error if the task has failed; return if it has succeeded or is processing.

        :raises MpsTaskFailed: if MPS has failed the task
        """
        if self.status is TaskStatus.FAIL:
            raise self.failure(self.task_id, self.error_code, self.message, self.request_id)

    def get_audio_url(self) -> str:
        """
        Return the URL of the audio of a successful task; it may be signed, so do not log it.

        :raises MpsTaskFailed: if MPS has failed the task
        :raises AudioTransferError: if the response holds no ``AudioUrl``
        """
        self.raise_for_status()
        if self.audio_url is None:
            raise AudioTransferError(
                f"MPS reported success for task {self.task_id} without an AudioUrl (RequestId {self.request_id}). "
                "Try again later; if this error persists, give Tencent's support the RequestId."
            )
        return self.audio_url

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


@dataclass(frozen=True)
class TextToSpeechTask(MpsTask):
    """
    A text-to-speech task as the API described it at one moment.

    https://www.tencentcloud.com/document/product/1041/79696
    """

    failure = TextToSpeechTaskFailed


@dataclass(frozen=True)
class VoiceDesignTask(MpsTask):
    """
    A task that designs a voice, as the API described it at one moment; ``audio_url`` is its trial audio.

    https://www.tencentcloud.com/document/api/1041/79694
    """

    failure = VoiceDesignTaskFailed


def make_storable(value: Any) -> Any:
    """
    Replace NUL characters and lone surrogates of a JSON value, which logs and databases cannot store.

    :raises ValueError: if the value cannot be written as JSON
    :raises RecursionError: if the value is nested too deeply
    """
    encoded = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    return json.loads(encoded.replace(rb"\u0000", rb"\ufffd"))


def _get_text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _get_integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _INTEGER_LIMIT else None


def get_duration(ext_info: Mapping[str, Any]) -> float | None:
    """Return the seconds in a parsed ``ExtInfo``; ``None`` if it has no usable ones."""
    seconds = ext_info.get("duration")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    return float(seconds) if seconds >= 0 else None


def parse_ext_info(value: object) -> dict[str, Any]:
    """Parse ``ExtInfo``, a JSON string; return an empty dict if it is missing or invalid."""
    if not isinstance(value, str):
        return {}
    try:
        # The value goes into an XCom: databases and the triggerer reject infinite numbers and more than 64 bits.
        parsed = json.loads(value, parse_constant=lambda _: None, parse_float=_parse_float, parse_int=_parse_integer)
        parsed = make_storable(parsed)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) and not _is_deeper(parsed, MAX_DEPTH) else {}


def _parse_integer(number: str) -> int | None:
    return int(number) if len(number) < len(str(_INTEGER_LIMIT)) else None


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    items = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in items)


def _parse_float(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None
