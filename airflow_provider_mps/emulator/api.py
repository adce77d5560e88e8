"""The API's rules: which calls there are, what they take, and the codes that refuse everything else."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.emulator.signature import Authorization, sign
from airflow_provider_mps.emulator.speech import DEFAULT_SAMPLE_RATE, SAMPLE_RATES, Style

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_mps.emulator.keys import KeyRing

MAX_BODY = 10 * 1024 * 1024
MAX_SKEW = 300
"""Seconds that a request's timestamp may be off."""
MAX_PITCH = 12
MAX_SPEECH = 3_600
"""Seconds of audio that ``synExt.duration`` may ask for; the API documents no limit, a laptop's memory has one."""


class RefusalError(Exception):
    """A refusal, as the API words it: HTTP 200 with ``Response.Error``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Parameter:
    """A parameter of a call."""

    type: type
    required: bool = False
    maximum: int = 0
    """Of a number."""


@dataclass(frozen=True)
class Action:
    """A call that the emulator knows."""

    service: str
    version: str
    parameters: Mapping[str, Parameter]


ACTIONS = {
    "TextToSpeechAsync": Action(
        "mps",
        "2019-06-12",
        {
            "Text": Parameter(str, required=True),
            "VoiceId": Parameter(str, required=True),
            "TextLang": Parameter(str),
            "ExtParam": Parameter(str),
        },
    ),
    "DescribeTextToSpeechAsyncTask": Action("mps", "2019-06-12", {"TaskId": Parameter(str, required=True)}),
    # Not of MPS, but of STS: here so that a connection with a role can be tried.
    "AssumeRole": Action(
        "sts",
        "2018-08-13",
        {
            "RoleArn": Parameter(str, required=True),
            "RoleSessionName": Parameter(str, required=True),
            "DurationSeconds": Parameter(int, maximum=43200),
        },
    ),
}


def authenticate(headers: Mapping[str, str], body: bytes, keys: KeyRing, now: float) -> Authorization:
    """
    Check who calls and that nobody changed the request.

    :param headers: values by lower-case name
    :param now: seconds since 1970
    :raises RefusalError: with a code of the family ``AuthFailure``
    """
    timestamp = headers.get("x-tc-timestamp", "")
    if not re.fullmatch("[0-9]{1,10}", timestamp):
        raise RefusalError("MissingParameter", "The header X-TC-Timestamp is missing or is not a whole number.")
    given = Authorization.parse(headers.get("authorization", ""))
    if given is None:
        raise RefusalError("AuthFailure.InvalidAuthorization", "The header Authorization is missing or malformed.")
    key = keys.find(given.secret_id)
    if key is None:
        raise RefusalError("AuthFailure.SecretIdNotFound", "The SecretId does not exist.")
    if abs(now - int(timestamp)) > MAX_SKEW:
        raise RefusalError("AuthFailure.SignatureExpire", "The timestamp is more than five minutes off.")
    if not {"content-type", "host"} <= set(given.signed_headers):
        raise RefusalError("AuthFailure.SignatureFailure", "content-type and host must be signed.")
    if given.date != datetime.fromtimestamp(int(timestamp), UTC).strftime("%Y-%m-%d"):
        raise RefusalError("AuthFailure.SignatureFailure", "The date of the credential is not the timestamp's.")
    expected = sign(
        key.secret_key,
        service=given.service,
        timestamp=int(timestamp),
        signed_headers=given.signed_headers,
        headers=headers,
        body=body,
    )
    if expected != given.signature:
        raise RefusalError("AuthFailure.SignatureFailure", "The signature is not right; check the SecretKey.")
    expired = key.expires_at is not None and key.expires_at <= now
    if (headers.get("x-tc-token") or None) != key.token or expired:
        raise RefusalError("AuthFailure.TokenFailure", "The token is wrong or has expired.")
    return given


def find_action(headers: Mapping[str, str], service: str) -> tuple[str, Action]:
    """Return the call that the headers name, for the service that was signed for."""
    name, version = headers.get("x-tc-action"), headers.get("x-tc-version")
    if not name:
        raise RefusalError("MissingParameter", "The header X-TC-Action is missing.")
    if not version:
        raise RefusalError("MissingParameter", "The header X-TC-Version is missing.")
    action = ACTIONS.get(name)
    if action is None or action.service != service:
        raise RefusalError("InvalidAction", f"The service {service} has no action {name}.")
    if version != action.version:
        raise RefusalError("NoSuchVersion", f"The action {name} has no version {version}.")
    return name, action


def read_parameters(action: Action, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Return the parameters of a call, checked against what it takes."""
    parameters = _read_object(headers, body)
    for name, value in parameters.items():
        parameter = action.parameters.get(name)
        if parameter is None:
            raise RefusalError("UnknownParameter", f"The parameter {name} is unknown.")
        if type(value) is not parameter.type:
            raise RefusalError("InvalidParameter", f"The parameter {name} must be of type {parameter.type.__name__}.")
        if isinstance(value, str) and not _is_storable(value):
            raise RefusalError("InvalidParameterValue", f"The parameter {name} holds what is no text.")
        if isinstance(value, int) and not 0 < value <= parameter.maximum:
            raise RefusalError("InvalidParameterValue", f"The parameter {name} must be 1 to {parameter.maximum}.")
    for name, parameter in action.parameters.items():
        if parameter.required and name not in parameters:
            raise RefusalError("MissingParameter", f"The parameter {name} is missing.")
        if parameter.required and not parameters[name].strip():
            raise RefusalError("InvalidParameterValue", f"The parameter {name} is empty.")
    return parameters


def _is_storable(text: str) -> bool:
    """Tell whether a text can be written as UTF-8 and handed to a program."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _read_object(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusalError("InvalidParameter", "The content type must be application/json.")
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusalError("InvalidParameter", "The body is not JSON.") from None
    if not isinstance(parsed, dict):
        raise RefusalError("InvalidParameter", "The body is not a JSON object.")
    return parsed


def read_style(ext_param: str | None) -> Style:
    """Return what ``ExtParam`` asks of the voice; translation is accepted and not done."""
    try:
        parsed = json.loads(ext_param or "{}")
    except (ValueError, RecursionError):
        raise RefusalError("InvalidParameterValue", "ExtParam is not JSON.") from None
    asked = parsed.get("synExt", {}) if isinstance(parsed, dict) else None
    if not isinstance(asked, dict):
        raise RefusalError("InvalidParameterValue", "ExtParam and its synExt must be JSON objects.")
    rate, pitch, duration = (
        asked.get("sampleRate", DEFAULT_SAMPLE_RATE),
        asked.get("pitch", 0),
        asked.get("duration"),
    )
    if type(rate) is not int or rate not in SAMPLE_RATES:
        raise RefusalError("InvalidParameterValue", f"synExt.sampleRate must be one of {SAMPLE_RATES}.")
    if type(pitch) is not int or abs(pitch) > MAX_PITCH:
        raise RefusalError("InvalidParameterValue", f"synExt.pitch must be from -{MAX_PITCH} to {MAX_PITCH}.")
    if duration is not None and not (type(duration) in {int, float} and 0 < duration <= MAX_SPEECH):
        raise RefusalError(
            "InvalidParameterValue", f"synExt.duration must be above 0 and at most {MAX_SPEECH} seconds."
        )
    return Style(rate, pitch, duration)
