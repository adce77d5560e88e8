"""The API calls: what each sends, which errors it retries, and how its response is parsed."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow_provider_mps.api.response import MAX_RESPONSE_BYTES
from airflow_provider_mps.error_codes import (
    INVALID_RESPONSE,
    REQUEST_REJECTED,
    SUBMIT_REJECTED,
    can_retry_query,
    can_retry_submit,
)
from airflow_provider_mps.exceptions import InvalidRequestError, make_api_error
from airflow_provider_mps.redaction import redact
from airflow_provider_mps.speech.audio_sample import is_audio
from airflow_provider_mps.speech.ext_param import parse_ext_param
from airflow_provider_mps.speech.parsing import parse_text, to_text
from airflow_provider_mps.speech.synthesis import OutputType, SynthesizedSpeech
from airflow_provider_mps.speech.task import TextToSpeechTask, parse_ext_info

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_mps.error_codes import ErrorClass
    from airflow_provider_mps.exceptions import MpsApiError
    from airflow_provider_mps.speech.synthesis import SynthesisRequest

T_co = TypeVar("T_co", covariant=True)

SYNTHESIS_TIMEOUT_SECONDS = 120.0
"""The call is synchronous: MPS makes the audio before it responds."""
MAX_AUDIO_RESPONSE_BYTES = 16 * 1024 * 1024
"""A response with audio in base64: 12 MiB of audio, six minutes of WAV at 16 kHz."""
_TASK_ID = r"[A-Za-z0-9._~:+/#$*!,;|()^-]{1,256}"
"""Allows more characters than MPS uses in ids, but rejects URLs with a query and dicts."""


@dataclass(frozen=True)
class ApiCall(Generic[T_co]):
    """An API call, for the synchronous and the asynchronous client."""

    action: str
    params: dict[str, Any] = field(repr=False)
    should_retry: Callable[[ErrorClass], bool]
    parse: Callable[[Mapping[str, Any]], T_co]
    subject: str
    """What the call is about, for logs and errors."""
    timeout: float = 0.0
    """Seconds to wait for the response, if that is more than the connection's ``timeout``."""
    max_response_bytes: int = MAX_RESPONSE_BYTES
    """Longer responses are not read to their end."""
    characters: int = 0
    """Length of the text that the call submits, for the metrics; 0 if it submits none."""


@dataclass(frozen=True)
class SubmitResult:
    """The response to a submit that MPS accepted, and bills."""

    task_id: str
    request_id: str


def make_describe_call(mps_task_id: str | None) -> ApiCall[TextToSpeechTask]:
    """
    Return the call that queries a task.

    https://www.tencentcloud.com/document/product/1041/79696

    :raises InvalidRequestError: if the argument is not a task id
    """
    task_id = parse_task_id(mps_task_id)
    return ApiCall(
        action="DescribeTextToSpeechAsyncTask",
        params={"TaskId": task_id},
        should_retry=can_retry_query,
        parse=lambda response: TextToSpeechTask.from_response(task_id, response),
        subject=f"task {task_id}",
    )


def make_submit_call(
    text: str, voice_id: str, text_lang: str | None = None, ext_param: Mapping[str, Any] | str | None = None
) -> ApiCall[SubmitResult]:
    """
    Return the call that submits a text.

    https://www.tencentcloud.com/document/product/1041/79693

    :raises InvalidRequestError: if an argument is invalid
    """
    params = {"Text": parse_text("text", to_text(text)), "VoiceId": parse_text("voice_id", to_text(voice_id))}
    if text_lang is not None and text_lang != "":
        params["TextLang"] = parse_text("text_lang", text_lang)
    if (encoded := encode_ext_param(ext_param)) is not None:
        params["ExtParam"] = encoded
    return ApiCall(
        action="TextToSpeechAsync",
        params=params,
        should_retry=can_retry_submit,
        parse=parse_submit,
        subject=f"a text of {len(params['Text'])} characters",
        characters=len(params["Text"]),
    )


def make_synthesize_call(request: SynthesisRequest) -> ApiCall[SynthesizedSpeech]:
    """
    Return the call that speaks a short text.

    https://cloud.tencent.com/document/product/862/135348
    """
    params: dict[str, Any] = {"Text": request.text, "VoiceId": request.voice_id}
    if request.text_lang is not None:
        params["TextLang"] = request.text_lang
    params["Output"] = {"Type": request.output_type.value}
    if request.ext_param:
        params["ExtParam"] = json.dumps(request.ext_param)
    return ApiCall(
        action="TextToSpeech",
        params=params,
        should_retry=can_retry_submit,
        parse=lambda response: _parse_speech(response, request.output_type),
        subject=f"a text of {len(request.text)} characters",
        timeout=SYNTHESIS_TIMEOUT_SECONDS,
        max_response_bytes=MAX_AUDIO_RESPONSE_BYTES,
        characters=len(request.text),
    )


def parse_task_id(mps_task_id: object) -> str:
    """
    Return the task id without surrounding white space.

    :raises InvalidRequestError: if it is missing or invalid; it is not quoted, because it may be a signed URL
    """
    task_id = mps_task_id.strip() if isinstance(mps_task_id, str) else mps_task_id
    if isinstance(task_id, str) and task_id != "None" and re.fullmatch(_TASK_ID, task_id) and "//" not in task_id:
        return task_id
    # A template over a missing XCom renders the text "None".
    if task_id is None or task_id in ("", "None"):
        raise InvalidRequestError(
            f"mps_task_id is {task_id!r}: there is no task to query. Check that the task which submits the text has "
            "run, and that mps_task_id is its return value."
        )
    kind = f"a text of {len(task_id)} characters" if isinstance(task_id, str) else f"a {type(task_id).__name__}"
    raise InvalidRequestError(
        f"mps_task_id is {kind}, which is not a TaskId. Use the return value of the task that submits the text; a "
        "sensor's return value has it under the key 'TaskId'."
    )


def encode_ext_param(ext_param: Mapping[str, Any] | str | None) -> str | None:
    """
    Return ``ExtParam`` as the API takes it, a JSON string; ``None`` if it is empty.

    :param ext_param: a mapping, or the JSON of an object, which is sent unchanged
    :raises InvalidRequestError: if it is neither
    """
    parsed = parse_ext_param(ext_param)
    if not parsed:
        return None
    return ext_param if isinstance(ext_param, str) else json.dumps(parsed, ensure_ascii=False)


def parse_submit(response: Mapping[str, Any]) -> SubmitResult:
    """
    Parse the response to a submit.

    :raises MpsApiError: if it has no ``TaskId``
    """
    task_id, request_id = response.get("TaskId"), str(response.get("RequestId") or "")
    error_code = response.get("ErrorCode")
    if isinstance(task_id, str) and task_id:
        # Whatever ErrorCode says: a task with an id exists, and a query returns its state.
        return SubmitResult(task_id, request_id)
    code = SUBMIT_REJECTED if isinstance(error_code, int) and error_code != 0 else INVALID_RESPONSE
    raise make_rejection(code, "no TaskId, but ", response)


def _parse_speech(response: Mapping[str, Any], output_type: OutputType) -> SynthesizedSpeech:
    """
    Parse the response to ``TextToSpeech``.

    :param output_type: which one to take if it has both a URL and the audio
    :raises MpsApiError: if it has no audio
    """
    url, data, error_code = response.get("AudioUrl"), response.get("AudioData"), response.get("ErrorCode")
    request_id = str(response.get("RequestId") or "")
    ext_info = parse_ext_info(response.get("ExtInfo"))
    if isinstance(url, str) and url and not (data and output_type is OutputType.DATA):
        return SynthesizedSpeech(url, None, ext_info, request_id)
    if isinstance(data, str) and data:
        try:
            audio = base64.b64decode("".join(data.split()), validate=True)  # some encoders break lines
        except ValueError as error:
            raise make_api_error(INVALID_RESPONSE, f"AudioData is not base64 ({error})", request_id) from None
        if not is_audio(audio):
            raise make_api_error(INVALID_RESPONSE, "AudioData is not audio", request_id)
        return SynthesizedSpeech(None, audio, ext_info, request_id)
    code = REQUEST_REJECTED if isinstance(error_code, int) and error_code != 0 else INVALID_RESPONSE
    raise make_rejection(code, "no audio, but ", response)


def make_rejection(code: str, problem: str, response: Mapping[str, Any]) -> MpsApiError:
    """
    Return the error for a response without a result.

    :param problem: what the response has or lacks, before its ``ErrorCode`` and ``Msg``
    """
    details = f"ErrorCode {_quote(response.get('ErrorCode'))} and Msg {_quote(response.get('Msg'))}"
    return make_api_error(code, f"the response has {problem}{details}", str(response.get("RequestId") or ""))


def _quote(value: object) -> str:
    return f"{redact(value)!r:.200}" if isinstance(value, str) else redact(repr(value))[:200]
