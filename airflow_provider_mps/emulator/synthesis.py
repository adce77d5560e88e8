"""The emulator's synchronous call ``TextToSpeech``: speak a text in the response, as a URL or as data."""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.emulator.api import ApiError, parse_style
from airflow_provider_mps.emulator.speech import SAMPLE_RATES
from airflow_provider_mps.emulator.tasks import ERROR_CODES, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_mps.emulator.tasks import Task, TaskStore
    from airflow_provider_mps.emulator.voices import VoiceStore

log = logging.getLogger(__name__)

SYNTHESIS_SAMPLE_RATES = (*SAMPLE_RATES, 24000)
"""Hz; the asynchronous call does not offer 24,000."""
_KEYS = {"duration", "format", "sampleRate"}


def synthesize(
    parameters: dict[str, Any], tasks: TaskStore, voices: VoiceStore, make_audio_url: Callable[[Task], str]
) -> dict[str, Any]:
    """
    Speak a text at once, and return the response.

    :param make_audio_url: makes a signed URL of a task's audio
    """
    style = parse_style(parameters.get("ExtParam"), SYNTHESIS_SAMPLE_RATES)
    options = json.loads(parameters.get("ExtParam") or "{}").get("synExt", {})
    if unknown := options.keys() - _KEYS:
        raise ApiError("InvalidParameterValue", f"synExt has the key {min(unknown)}, which this call does not take.")
    audio_format = options.get("format", "wav")
    if audio_format not in ("wav", "mp3"):
        raise ApiError("InvalidParameterValue", "synExt.format must be wav or mp3.")
    style = replace(style, audio_format=audio_format)
    output = parse_output(parameters.get("Output", {}))
    voices.validate_not_deleted(parameters["VoiceId"])
    task = tasks.speak_now(parameters["Text"], parameters["VoiceId"], parameters.get("TextLang"), style)
    if tasks.status(task) is not Status.SUCCESS:
        message = "the text begins with [fail], or synthesis failed"
        return {"ErrorCode": ERROR_CODES[Status.FAIL], "Msg": message, "AudioData": "", "AudioUrl": "", "ExtInfo": ""}
    log.info("spoke the text of audio %s, %s characters", task.name, len(task.text))
    return {"ErrorCode": 0, "Msg": "success", **make_audio_fields(task, tasks, output, make_audio_url)}


def parse_output(output: dict[str, Any]) -> str:
    """Return ``Output.Type``: ``data`` or ``url``."""
    kind = output.get("Type", "data")
    if kind not in ("data", "url") or output.keys() - {"Type"}:
        raise ApiError("InvalidParameterValue", "Output.Type must be data or url.")
    return str(kind)


def make_audio_fields(
    task: Task, tasks: TaskStore, output: str, make_audio_url: Callable[[Task], str]
) -> dict[str, Any]:
    """Return the fields of a response that hold a finished audio."""
    audio = tasks.audio(task)
    is_url = output == "url"
    return {
        "AudioData": "" if is_url else base64.b64encode(audio.path.read_bytes()).decode(),
        "AudioUrl": make_audio_url(task) if is_url else "",
        "ExtInfo": json.dumps({"duration": audio.duration}),
    }
