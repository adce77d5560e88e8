"""Rules of the API: its actions, their parameters, and the error codes for every other request."""

from __future__ import annotations

import json
import re
from collections import defaultdict, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.emulator.auth import Authorization, sign
from airflow_provider_mps.emulator.speech import DEFAULT_SAMPLE_RATE, SAMPLE_RATES, Style

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_mps.emulator.auth import KeyStore

MAX_BODY_BYTES = 10 * 1024 * 1024
MAX_CLOCK_SKEW_SECONDS = 300
MAX_PITCH = 12
MAX_SPEECH_SECONDS = 3_600
"""Limit of ``synExt.duration``; the API documents none, but the audio is made in memory."""


class ApiError(Exception):
    """An error response of the API: HTTP 200 with ``Response.Error``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Parameter:
    """A parameter of an action."""

    type: type
    required: bool = False
    maximum: int = 0
    """Largest value of a number."""


@dataclass(frozen=True)
class Action:
    """An action that the emulator implements."""

    service: str
    version: str
    parameters: Mapping[str, Parameter]


_SPEECH_PARAMETERS = {
    "Text": Parameter(str, required=True),
    "VoiceId": Parameter(str, required=True),
    "TextLang": Parameter(str),
    "ExtParam": Parameter(str),
}
ACTIONS = {
    "TextToSpeechAsync": Action(
        "mps",
        "2019-06-12",
        _SPEECH_PARAMETERS,
    ),
    "TextToSpeech": Action("mps", "2019-06-12", {**_SPEECH_PARAMETERS, "Output": Parameter(dict)}),
    "DescribeTextToSpeechAsyncTask": Action("mps", "2019-06-12", {"TaskId": Parameter(str, required=True)}),
    "DescribeVoices": Action(
        "mps",
        "2019-06-12",
        {
            "VoiceId": Parameter(str),
            "VoiceType": Parameter(str),
            "VoiceName": Parameter(str),
            "Description": Parameter(str),
            "Gender": Parameter(str),
            "Age": Parameter(str),
            "Languages": Parameter(list),
            "Labels": Parameter(list),
            "Scenes": Parameter(list),
            "PageNum": Parameter(int, maximum=1_000_000),
            "PageSize": Parameter(int, maximum=1000),
            "ExtParam": Parameter(str),
        },
    ),
    "CloneVoice": Action(
        "mps",
        "2019-06-12",
        {
            "AudioData": Parameter(str),
            "AudioUrl": Parameter(str),
            "AudioLang": Parameter(str),
            "VoiceProfile": Parameter(dict),
            "Text": Parameter(str),
            "TextLang": Parameter(str),
            "Output": Parameter(dict),
            "ExtParam": Parameter(str),
        },
    ),
    "DesignVoiceAsync": Action(
        "mps",
        "2019-06-12",
        {
            "Prompt": Parameter(str, required=True),
            "VoiceProfile": Parameter(dict),
            "Text": Parameter(str),
            "ExtParam": Parameter(str),
        },
    ),
    "DescribeDesignTask": Action("mps", "2019-06-12", {"TaskId": Parameter(str, required=True)}),
    "UpdateVoice": Action(
        "mps",
        "2019-06-12",
        {"VoiceId": Parameter(str, required=True), "VoiceFields": Parameter(dict), "ExtParam": Parameter(str)},
    ),
    "DeleteVoice": Action("mps", "2019-06-12", {"VoiceId": Parameter(str, required=True)}),
    # An action of STS, so that a connection with a role can be tested.
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


def authenticate(headers: Mapping[str, str], body: bytes, keys: KeyStore, now: float) -> Authorization:
    """
    Verify the signature of a request, and return its authorization.

    :param headers: values by lower-case name
    :param now: seconds since 1970
    :raises ApiError: with a code of the family ``AuthFailure``, or ``MissingParameter`` without a valid timestamp
    """
    timestamp = headers.get("x-tc-timestamp", "")
    if not re.fullmatch("[0-9]{1,10}", timestamp):
        raise ApiError("MissingParameter", "The header X-TC-Timestamp is missing or is not a whole number.")
    given = Authorization.parse(headers.get("authorization", ""))
    if given is None:
        raise ApiError("AuthFailure.InvalidAuthorization", "The header Authorization is missing or malformed.")
    key = keys.find(given.secret_id)
    if key is None:
        raise ApiError("AuthFailure.SecretIdNotFound", "The SecretId does not exist.")
    if abs(now - int(timestamp)) > MAX_CLOCK_SKEW_SECONDS:
        raise ApiError("AuthFailure.SignatureExpire", "The timestamp is more than five minutes off.")
    if not {"content-type", "host"} <= set(given.signed_headers):
        raise ApiError("AuthFailure.SignatureFailure", "content-type and host must be signed.")
    if given.date != datetime.fromtimestamp(int(timestamp), UTC).strftime("%Y-%m-%d"):
        raise ApiError("AuthFailure.SignatureFailure", "The date of the credential differs from the timestamp's.")
    expected = sign(
        key.secret_key,
        service=given.service,
        timestamp=int(timestamp),
        signed_headers=given.signed_headers,
        headers=headers,
        body=body,
    )
    if expected != given.signature:
        raise ApiError("AuthFailure.SignatureFailure", "The signature does not match; check the SecretKey.")
    expired = key.expires_at is not None and key.expires_at <= now
    if (headers.get("x-tc-token") or None) != key.token or expired:
        raise ApiError("AuthFailure.TokenFailure", "The token is wrong or has expired.")
    return given


def find_action(headers: Mapping[str, str], service: str) -> tuple[str, Action]:
    """Return name and definition of the action in the headers, for the service of the signature."""
    name, version = headers.get("x-tc-action"), headers.get("x-tc-version")
    if not name:
        raise ApiError("MissingParameter", "The header X-TC-Action is missing.")
    if not version:
        raise ApiError("MissingParameter", "The header X-TC-Version is missing.")
    action = ACTIONS.get(name)
    if action is None or action.service != service:
        raise ApiError("InvalidAction", f"The service {service} has no action {name}.")
    if version != action.version:
        raise ApiError("NoSuchVersion", f"The action {name} has no version {version}.")
    return name, action


def parse_parameters(action: Action, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Parse and validate the parameters of an action."""
    parameters = _parse_body(headers, body)
    for name, value in parameters.items():
        parameter = action.parameters.get(name)
        if parameter is None:
            raise ApiError("UnknownParameter", f"The parameter {name} is unknown.")
        if type(value) is not parameter.type:
            raise ApiError("InvalidParameter", f"The parameter {name} must be of type {parameter.type.__name__}.")
        if isinstance(value, list) and not all(isinstance(item, str) for item in value):
            raise ApiError("InvalidParameter", f"The parameter {name} must be a list of strings.")
        if isinstance(value, str) and not _is_storable(value):
            raise ApiError("InvalidParameterValue", f"The parameter {name} holds characters that are not allowed.")
        if isinstance(value, int) and not 0 < value <= parameter.maximum:
            raise ApiError("InvalidParameterValue", f"The parameter {name} must be 1 to {parameter.maximum}.")
    for name, parameter in action.parameters.items():
        if parameter.required and name not in parameters:
            raise ApiError("MissingParameter", f"The parameter {name} is missing.")
        if parameter.required and not parameters[name].strip():
            raise ApiError("InvalidParameterValue", f"The parameter {name} is empty.")
    return parameters


def _is_storable(text: str) -> bool:
    """Return whether a text can be written as UTF-8 and passed to a program."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _parse_body(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError("InvalidParameter", "The content type must be application/json.")
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        raise ApiError("InvalidParameter", "The body is not JSON.") from None
    if not isinstance(parsed, dict):
        raise ApiError("InvalidParameter", "The body is not a JSON object.")
    return parsed


def parse_style(ext_param: str | None, sample_rates: Sequence[int] = SAMPLE_RATES) -> Style:
    """Parse ``ExtParam`` into a speech style; translation is accepted and ignored."""
    try:
        parsed = json.loads(ext_param or "{}")
    except (ValueError, RecursionError):
        raise ApiError("InvalidParameterValue", "ExtParam is not JSON.") from None
    options = parsed.get("synExt", {}) if isinstance(parsed, dict) else None
    if not isinstance(options, dict):
        raise ApiError("InvalidParameterValue", "ExtParam and its synExt must be JSON objects.")
    rate, pitch, duration = (
        options.get("sampleRate", DEFAULT_SAMPLE_RATE),
        options.get("pitch", 0),
        options.get("duration"),
    )
    if type(rate) is not int or rate not in sample_rates:
        raise ApiError("InvalidParameterValue", f"synExt.sampleRate must be one of {tuple(sample_rates)}.")
    if type(pitch) is not int or abs(pitch) > MAX_PITCH:
        raise ApiError("InvalidParameterValue", f"synExt.pitch must be from -{MAX_PITCH} to {MAX_PITCH}.")
    if duration is not None and not (type(duration) in {int, float} and 0 < duration <= MAX_SPEECH_SECONDS):
        raise ApiError(
            "InvalidParameterValue", f"synExt.duration must be above 0 and at most {MAX_SPEECH_SECONDS} seconds."
        )
    return Style(rate, pitch, duration)


class RateLimit:
    """
    Count requests by key in a sliding window of one second; throttled ones do not count.

    :param per_second: maximum of requests in any second
    """

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second
        self._arrivals: defaultdict[str, deque[float]] = defaultdict(deque)

    def admits(self, key: str, now: float) -> bool:
        """Return whether a request that arrives at ``now`` (seconds, monotonic) is within the limit."""
        arrivals = self._arrivals[key]
        while arrivals and arrivals[0] <= now - 1:
            arrivals.popleft()
        if len(arrivals) >= self.per_second:
            return False
        arrivals.append(now)
        return True
