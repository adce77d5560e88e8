"""The emulator's calls about voices: read their parameters, and make their responses."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.emulator.api import ApiError
from airflow_provider_mps.emulator.synthesis import make_audio_fields, parse_output
from airflow_provider_mps.emulator.tasks import ERROR_CODES, Status
from airflow_provider_mps.emulator.voices import Profile

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_mps.emulator.tasks import Task, TaskStore
    from airflow_provider_mps.emulator.voices import Voice, VoiceStore

MAX_TRIAL_CHARACTERS = 500
GENDERS = {"male", "female", "unknown"}
AGES = {"child", "teenager", "youth", "middle_aged", "senior", "unknown"}
VOICE_TYPES = {"system", "clone", "design", "all"}
_FIELDS = {"".join(part.title() for part in each.name.split("_")): each.name for each in fields(Profile)}
_ACCEPTED = {"ErrorCode": 0, "Msg": "success"}


class VoiceActions:
    """The calls, by action; each takes its parameters, and a function that makes a signed URL of a task's audio."""

    def __init__(self, voices: VoiceStore, tasks: TaskStore) -> None:
        self._voices = voices
        self._tasks = tasks
        self.calls: dict[str, Callable[[dict[str, Any], Callable[[Task], str]], dict[str, Any]]] = {
            "DescribeVoices": self.describe_voices,
            "CloneVoice": self.clone,
            "DesignVoiceAsync": self.design,
            "DescribeDesignTask": self.describe_design,
            "UpdateVoice": self.update,
            "DeleteVoice": self.delete,
        }

    def describe_voices(self, parameters: dict[str, Any], make_audio_url: Callable[[Task], str]) -> dict[str, Any]:
        """Return the voices that match all filters, or one page of them."""
        voice_type = parameters.get("VoiceType", "all")
        if voice_type not in VOICE_TYPES:
            raise ApiError("InvalidParameterValue", f"VoiceType must be one of {sorted(VOICE_TYPES)}.")
        _parse_profile({name: parameters[name] for name in ("Gender", "Age") if name in parameters})
        found = [voice for voice in self._voices.list() if voice_type in {"all", voice.category}]
        found = [voice for voice in found if _matches(voice, parameters)]
        size = parameters.get("PageSize", max(len(found), 1))
        first = (parameters.get("PageNum", 1) - 1) * size
        page = [self._describe(voice, make_audio_url) for voice in found[first : first + size]]
        return {**_ACCEPTED, "TotalCount": len(found), "Voices": page}

    def clone(self, parameters: dict[str, Any], make_audio_url: Callable[[Task], str]) -> dict[str, Any]:
        """Clone a voice; the sample is decoded, but has no effect, and a URL is not read."""
        _validate_sample(parameters)
        output = parse_output(parameters.get("Output", {}))
        profile = _parse_profile(parameters.get("VoiceProfile", {}))
        voice = self._voices.clone(Profile(**profile), parameters.get("Text"), parameters.get("TextLang"))
        response = {**_ACCEPTED, "VoiceId": voice.voice_id, "AudioData": "", "AudioUrl": "", "ExtInfo": ""}
        if (trial := self._voices.get_trial(voice)) is not None:
            response |= make_audio_fields(trial, self._tasks, output, make_audio_url)
        return response

    def design(self, parameters: dict[str, Any], _: Callable[[Task], str]) -> dict[str, Any]:
        """Begin to design a voice."""
        if len(parameters.get("Text", "")) > MAX_TRIAL_CHARACTERS:
            raise ApiError("InvalidParameterValue", f"Text has more than {MAX_TRIAL_CHARACTERS} characters.")
        profile = Profile(**_parse_profile(parameters.get("VoiceProfile", {})))
        return {**_ACCEPTED, "TaskId": self._voices.design(parameters["Prompt"], profile, parameters.get("Text"))}

    def describe_design(self, parameters: dict[str, Any], make_audio_url: Callable[[Task], str]) -> dict[str, Any]:
        """Return the state of a design."""
        status, voice = self._voices.find_design(parameters["TaskId"])
        response = {
            "ErrorCode": ERROR_CODES[status],
            "Msg": "the prompt begins with [fail], or synthesis failed" if status is Status.FAIL else status.value,
            "Status": status.value,
            "VoiceId": None,
            "AudioUrl": "",
            "ExtInfo": None,
        }
        if status is Status.SUCCESS and voice.trial is not None:
            response["VoiceId"] = voice.voice_id
            response["AudioUrl"] = make_audio_url(voice.trial)
            response["ExtInfo"] = json.dumps({"duration": self._tasks.audio(voice.trial).duration})
        return response

    def update(self, parameters: dict[str, Any], make_audio_url: Callable[[Task], str]) -> dict[str, Any]:
        """Change a voice."""
        voice = self._voices.update(parameters["VoiceId"], _parse_profile(parameters.get("VoiceFields", {})))
        return {**_ACCEPTED, "Voice": self._describe(voice, make_audio_url)}

    def delete(self, parameters: dict[str, Any], _: Callable[[Task], str]) -> dict[str, Any]:
        """Delete a voice."""
        self._voices.delete(parameters["VoiceId"])
        return _ACCEPTED

    def _describe(self, voice: Voice, make_audio_url: Callable[[Task], str]) -> dict[str, Any]:
        trial = self._voices.get_trial(voice)
        profile = {name: getattr(voice.profile, attribute) for name, attribute in _FIELDS.items()}
        return {
            "VoiceId": voice.voice_id,
            **{name: list(value) if isinstance(value, tuple) else value for name, value in profile.items()},
            "Category": voice.category,
            "AudioUrl": make_audio_url(trial) if trial else "",
            "Engine": "emulator",
        }


def _parse_profile(given: dict[str, Any]) -> dict[str, Any]:
    """Validate ``VoiceProfile`` or ``VoiceFields``, and return the fields of a :class:`~.voices.Profile`."""
    for name, value in given.items():
        if name not in _FIELDS:
            raise ApiError("UnknownParameter", f"A voice has no field {name}.")
        is_list = name in {"Languages", "Labels", "Scenes"}
        items = value if is_list and isinstance(value, list) else [value]
        if is_list != isinstance(value, list) or not all(isinstance(item, str) for item in items):
            raise ApiError("InvalidParameter", f"{name} must be {'a list of strings' if is_list else 'a string'}.")
    for name, choices in (("Gender", GENDERS), ("Age", AGES)):
        if given.get(name, "unknown") not in choices:
            raise ApiError("InvalidParameterValue", f"{name} must be one of {sorted(choices)}.")
    return {_FIELDS[name]: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _matches(voice: Voice, parameters: dict[str, Any]) -> bool:
    profile = voice.profile
    gender = "female" if profile.gender == "famale" else profile.gender
    return (
        parameters.get("VoiceId", voice.voice_id) == voice.voice_id
        and parameters.get("VoiceName", "").casefold() in profile.name.casefold()
        and parameters.get("Description", "").casefold() in profile.description.casefold()
        and parameters.get("Gender", gender) == gender
        and parameters.get("Age", profile.age) == profile.age
        and set(parameters.get("Languages", ())) <= set(profile.languages)
        and set(parameters.get("Labels", ())) <= set(profile.labels)
        and set(parameters.get("Scenes", ())) <= set(profile.scenes)
    )


def _validate_sample(parameters: dict[str, Any]) -> None:
    data, url = parameters.get("AudioData", ""), parameters.get("AudioUrl", "")
    if not data and not url:
        raise ApiError("MissingParameter", "AudioData or AudioUrl is missing.")
    if not data:
        if not url.startswith(("http://", "https://")):
            raise ApiError("InvalidParameterValue", "AudioUrl must be an http or https URL.")
        return
    try:
        base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error):
        raise ApiError("InvalidParameterValue", "AudioData is not base64.") from None
