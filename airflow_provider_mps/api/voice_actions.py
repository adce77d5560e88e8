"""The API calls about voices: list, clone, design, change and delete."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.api.actions import ApiCall, make_rejection, parse_submit, parse_task_id
from airflow_provider_mps.error_codes import (
    INVALID_RESPONSE,
    REQUEST_REJECTED,
    SUBMIT_REJECTED,
    can_retry_query,
    can_retry_submit,
)
from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.redaction import quote_value
from airflow_provider_mps.speech.parsing import parse_choice
from airflow_provider_mps.speech.task import VoiceDesignTask, get_duration, parse_ext_info
from airflow_provider_mps.speech.voices import Voice, VoiceType, make_voice_fields, parse_voice_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_mps.api.actions import SubmitResult
    from airflow_provider_mps.speech.voices import CloneRequest, VoiceDesignRequest

PAGE_SIZE = 100
MAX_PAGES = 1000
CLONE_TIMEOUT_SECONDS = 120.0
"""The call is synchronous: it uploads a sample of up to 7 MiB, and MPS makes the clone before it responds."""


@dataclass(frozen=True)
class ClonedVoice:
    """A clone that MPS has made."""

    voice_id: str
    audio_url: str | None = field(default=None, repr=False)
    """The trial audio, valid for 24 hours; ``None`` without a trial text."""
    request_id: str = ""
    duration: float | None = None
    """Seconds of the trial audio; ``None`` if MPS does not report them."""


@dataclass(frozen=True)
class VoicePage:
    """A page of ``DescribeVoices``."""

    voices: list[Voice]
    item_count: int
    """Items of the page, including those that cannot be used because they have no ``VoiceId``."""
    total_count: int | None = None


class VoiceListing:
    """
    Collect all pages of ``DescribeVoices``: make :meth:`next_call`, pass its result to :meth:`add`, and repeat.

    https://www.tencentcloud.com/document/api/1041/79695

    :param voice_type: ``system``, ``clone``, ``design`` or ``all``
    :param voice_id: only the voice with this id
    :param filters: ``name`` (MPS matches a part of it), ``gender``, ``age``, ``languages``, ``labels``, ``scenes``
    :raises InvalidRequestError: if an argument is invalid
    """

    def __init__(self, voice_type: object = VoiceType.ALL, voice_id: object = None, **filters: object) -> None:
        fields = make_voice_fields(**filters)
        if "Name" in fields:
            fields["VoiceName"] = fields.pop("Name")
        if voice_id is not None:
            fields["VoiceId"] = parse_voice_id(voice_id)
        self._params = {"VoiceType": parse_choice(VoiceType, voice_type).value, **fields}
        self._voices: dict[str, Voice] = {}
        self._unusable_count = 0
        self._pages = 0
        self._is_complete = False

    def next_call(self) -> ApiCall[VoicePage] | None:
        """Return the call for the next page; ``None`` after the last one."""
        if self._is_complete:
            return None
        return ApiCall(
            action="DescribeVoices",
            params={**self._params, "PageNum": self._pages + 1, "PageSize": PAGE_SIZE},
            should_retry=can_retry_query,
            parse=_parse_page,
            subject="voices",
        )

    def add(self, page: VoicePage) -> None:
        """Add the voices of a page."""
        known = len(self._voices)
        self._voices |= {voice.voice_id: voice for voice in page.voices}
        self._unusable_count += page.item_count - len(page.voices)
        self._pages += 1
        # Voices, not items: pages overlap if a voice is made meanwhile.
        count = len(self._voices) + self._unusable_count
        is_last = page.item_count == 0 or (page.total_count is not None and count >= page.total_count)
        # A server that ignores PageNum sends the same voices again.
        is_repeated = self._pages > 1 and len(self._voices) == known
        self._is_complete = is_last or is_repeated or self._pages >= MAX_PAGES

    @property
    def voices(self) -> list[Voice]:
        """The voices so far, in the order of MPS."""
        return list(self._voices.values())


def make_clone_call(request: CloneRequest) -> ApiCall[ClonedVoice]:
    """
    Return the call that clones a voice; an account holds 100 cloned and designed voices by default.

    https://www.tencentcloud.com/document/api/1041/82312
    """
    params: dict[str, Any] = {**request.sample.to_api(), "VoiceProfile": dict(request.profile)}
    if request.audio_lang is not None:
        params["AudioLang"] = request.audio_lang
    if request.trial_text is not None:
        params["Text"] = request.trial_text
    params["Output"] = {"Type": "url"}  # otherwise, the response holds the trial audio in base64
    return ApiCall(
        action="CloneVoice",
        params=params,
        should_retry=can_retry_submit,
        parse=_parse_clone,
        subject=f"the voice {quote_value(request.profile['Name'])}",
        timeout=CLONE_TIMEOUT_SECONDS,
    )


def make_submit_design_call(request: VoiceDesignRequest) -> ApiCall[SubmitResult]:
    """
    Return the call that submits the design of a voice.

    https://www.tencentcloud.com/document/api/1041/79694
    """
    params: dict[str, Any] = {"Prompt": request.prompt, "VoiceProfile": dict(request.profile)}
    if request.trial_text is not None:
        params["Text"] = request.trial_text
    return ApiCall(
        action="DesignVoiceAsync",
        params=params,
        should_retry=can_retry_submit,
        parse=parse_submit,
        subject=f"the voice {quote_value(request.profile['Name'])}",
    )


def make_describe_design_call(mps_task_id: str | None) -> ApiCall[VoiceDesignTask]:
    """
    Return the call that queries the design of a voice.

    https://www.tencentcloud.com/document/api/1041/79694

    :raises InvalidRequestError: if the argument is not a task id
    """
    task_id = parse_task_id(mps_task_id)
    return ApiCall(
        action="DescribeDesignTask",
        params={"TaskId": task_id},
        should_retry=can_retry_query,
        parse=lambda response: VoiceDesignTask.from_response(task_id, response),
        subject=f"task {task_id}",
    )


def make_update_call(voice_id: str, **fields: object) -> ApiCall[Voice]:
    """
    Return the call that changes properties of a voice.

    :param fields: see :func:`~.speech.voices.make_voice_fields`
    :raises InvalidRequestError: if one is invalid, or there are none
    """
    parsed_id, changes = parse_voice_id(voice_id), make_voice_fields(**fields)
    if not changes:
        raise InvalidRequestError(f"Nothing to change of voice {quote_value(parsed_id, 200)}: set at least one field.")

    def parse(response: Mapping[str, Any]) -> Voice:
        _raise_for_error_code(response, REQUEST_REJECTED)
        return Voice.from_response(response.get("Voice")) or Voice(parsed_id)

    return ApiCall(
        action="UpdateVoice",
        params={"VoiceId": parsed_id, "VoiceFields": changes},
        should_retry=can_retry_query,  # a repeated change has no effect
        parse=parse,
        subject=f"voice {quote_value(parsed_id, 200)}",
    )


def make_delete_call(voice_id: str) -> ApiCall[None]:
    """
    Return the call that deletes a voice.

    :raises InvalidRequestError: if the argument is not a VoiceId
    """
    parsed_id = parse_voice_id(voice_id)
    return ApiCall(
        action="DeleteVoice",
        params={"VoiceId": parsed_id},
        should_retry=can_retry_query,  # a repeated deletion has no effect
        parse=lambda response: _raise_for_error_code(response, REQUEST_REJECTED),
        subject=f"voice {quote_value(parsed_id, 200)}",
    )


def _parse_page(response: Mapping[str, Any]) -> VoicePage:
    _raise_for_error_code(response, REQUEST_REJECTED)
    items = response.get("Voices")
    if not isinstance(items, list | None):
        # Not "no voices": an operator would make another one.
        raise make_rejection(INVALID_RESPONSE, "no list of voices, but ", response)
    items = items or []
    total = response.get("TotalCount")
    is_count = isinstance(total, int) and not isinstance(total, bool)
    voices = [voice for item in items if (voice := Voice.from_response(item))]
    return VoicePage(voices, len(items), total if is_count else None)


def _parse_clone(response: Mapping[str, Any]) -> ClonedVoice:
    voice_id, audio_url = response.get("VoiceId"), response.get("AudioUrl")
    if not isinstance(voice_id, str) or not voice_id.strip():
        _raise_for_error_code(response, SUBMIT_REJECTED)
        raise make_rejection(INVALID_RESPONSE, "no VoiceId, but ", response)
    # Whatever ErrorCode says: a voice with an id exists.
    url = audio_url if isinstance(audio_url, str) and audio_url else None
    duration = get_duration(parse_ext_info(response.get("ExtInfo")))
    return ClonedVoice(voice_id.strip(), url, str(response.get("RequestId") or ""), duration)


def _raise_for_error_code(response: Mapping[str, Any], code: str) -> None:
    error_code = response.get("ErrorCode")
    if isinstance(error_code, int) and error_code != 0:
        raise make_rejection(code, "", response)
