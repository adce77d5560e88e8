"""The two calls: what each sends, what may be repeated, and how its answer is read."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow_provider_mps.errors import (
    INVALID_RESPONSE,
    SUBMIT_REFUSED,
    InvalidRequestError,
    api_error,
    may_query_again,
    may_submit_again,
)
from airflow_provider_mps.ext_param import parse_ext_param
from airflow_provider_mps.redaction import redact
from airflow_provider_mps.text_to_speech import TextToSpeechTask
from airflow_provider_mps.text_value import require_text, to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_mps.errors import (
        ErrorClass,
    )

T = TypeVar("T")

_TASK_ID = re.compile(r"[A-Za-z0-9._~:+/#$*!,;|()^-]{1,256}")
"""Wider than what MPS gives, and neither a URL with a query nor a dict."""


@dataclass(frozen=True)
class ApiCall(Generic[T]):
    """One call of the API, whichever client makes it."""

    action: str
    params: dict[str, Any] = field(repr=False)
    may_repeat: Callable[[ErrorClass], bool]
    """Tells by the class of an error whether this call may be made again."""
    read: Callable[[Mapping[str, Any]], T]
    """Reads the ``Response`` object of the answer."""
    subject: str
    """What the call is about, for logs and errors."""


@dataclass(frozen=True)
class Accepted:
    """The answer to a submit: MPS will do the work, and bill it."""

    task_id: str
    request_id: str


def describe_call(mps_task_id: str | None) -> ApiCall[TextToSpeechTask]:
    """
    Ask for one task. https://www.tencentcloud.com/document/product/1041/79696

    :raises InvalidRequestError: when there is no task id
    """
    task_id = require_task_id(mps_task_id)
    return ApiCall(
        action="DescribeTextToSpeechAsyncTask",
        params={"TaskId": task_id},
        may_repeat=may_query_again,
        read=lambda answer: TextToSpeechTask.from_answer(task_id, answer),
        subject=f"task {task_id}",
    )


def submit_call(
    text: str, voice_id: str, text_lang: str | None = None, ext_param: Mapping[str, Any] | str | None = None
) -> ApiCall[Accepted]:
    """
    Submit a text. https://www.tencentcloud.com/document/product/1041/79693

    :raises InvalidRequestError: when an argument cannot be sent
    """
    spoken = require_text("text", to_text(text))
    params = {"Text": spoken, "VoiceId": require_text("voice_id", to_text(voice_id))}
    if text_lang is not None and text_lang != "":
        params["TextLang"] = require_text("text_lang", text_lang)
    encoded = encode_ext_param(ext_param)
    if encoded is not None:
        params["ExtParam"] = encoded
    return ApiCall(
        action="TextToSpeechAsync",
        params=params,
        may_repeat=may_submit_again,
        read=_read_accepted,
        subject=f"a text of {len(spoken)} characters",
    )


def require_task_id(mps_task_id: object) -> str:
    """
    Return the task id without surrounding white space.

    :raises InvalidRequestError: when there is none, or it cannot be one; it is not quoted, for it may be a signed URL
    """
    task_id = mps_task_id.strip() if isinstance(mps_task_id, str) else mps_task_id
    if isinstance(task_id, str) and task_id != "None" and _TASK_ID.fullmatch(task_id) and "//" not in task_id:
        return task_id
    # A template over a missing XCom renders the text "None".
    if task_id is None or task_id in ("", "None"):
        raise InvalidRequestError(
            f"mps_task_id is {task_id!r}: there is no task to ask for. Check that the task which submits the text "
            "has run, and that mps_task_id takes its return value."
        )
    kind = f"a text of {len(task_id)} characters" if isinstance(task_id, str) else f"a {type(task_id).__name__}"
    raise InvalidRequestError(
        f"mps_task_id is {kind}, which is no TaskId. Give the return value of the task that submits the text; a "
        "sensor's return value has it under the key 'TaskId'."
    )


def encode_ext_param(ext_param: Mapping[str, Any] | str | None) -> str | None:
    """
    Return ``ExtParam`` as the API takes it, a JSON string; ``None`` where nothing is asked for.

    :param ext_param: a mapping, or a JSON string of an object, which is sent as it is
    :raises InvalidRequestError: when it is neither
    """
    parsed = parse_ext_param(ext_param)
    if not parsed:
        return None
    return ext_param if isinstance(ext_param, str) else json.dumps(parsed, ensure_ascii=False)


def _read_accepted(answer: Mapping[str, Any]) -> Accepted:
    task_id, request_id = answer.get("TaskId"), str(answer.get("RequestId") or "")
    if isinstance(task_id, str) and task_id:
        # Whatever ErrorCode says: a task that has an id exists, and asking for it tells its state.
        return Accepted(task_id, request_id)
    problem = (
        f"the answer has no TaskId, but ErrorCode {_shown(answer.get('ErrorCode'))} and Msg {_shown(answer.get('Msg'))}"
    )
    if isinstance(answer.get("ErrorCode"), int) and answer["ErrorCode"] != 0:
        raise api_error(SUBMIT_REFUSED, problem, request_id)
    raise api_error(INVALID_RESPONSE, problem, request_id)


def _shown(value: object) -> str:
    return f"{redact(str(value))!r:.200}" if isinstance(value, str) else f"{value!r:.200}"
