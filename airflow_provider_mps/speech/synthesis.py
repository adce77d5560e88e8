"""A short text that MPS speaks in one call: the validated request, and the speech that it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_mps.speech.ext_param import make_value_error, parse_number, parse_whole_number
from airflow_provider_mps.speech.parsing import parse_choice
from airflow_provider_mps.speech.request import SpeechRequest
from airflow_provider_mps.speech.task import get_duration

if TYPE_CHECKING:
    from airflow_provider_mps.speech.ext_param import ExtParam

SYNTHESIS_SAMPLE_RATES = (8000, 16000, 22050, 24000, 32000, 44100)
"""Hz."""


class AudioFormat(StrEnum):
    """The format of the audio."""

    WAV = "wav"
    MP3 = "mp3"


class OutputType(StrEnum):
    """How MPS returns the audio."""

    URL = "url"
    """At a signed URL, valid for 24 hours."""
    DATA = "data"
    """In the response itself."""


@dataclass(frozen=True)
class SynthesisRequest(SpeechRequest):
    """
    A short text that can be spoken.

    https://cloud.tencent.com/document/product/862/135348
    """

    output_type: OutputType = OutputType.URL

    @classmethod
    def from_options(
        cls,
        text: object,
        voice_id: object,
        text_lang: object = None,
        *,
        audio_format: object = AudioFormat.WAV,
        sample_rate: object = None,
        target_duration: object = None,
        output_type: object = OutputType.URL,
        max_characters: int | None = None,
        text_source: str = "text",
        voice_name: object = None,
    ) -> Self:
        """
        Validate the arguments, without looking up ``voice_name``.

        :param text_source: the argument, or the file, that holds the text, for the error
        :raises InvalidRequestError: if an argument is invalid, or the text is too long
        """
        speech = SpeechRequest.from_arguments(
            text, voice_id, text_lang, {}, max_characters, text_source=text_source, voice_name=voice_name
        )
        options = _make_options(audio_format, sample_rate, target_duration)
        return cls(
            speech.text,
            speech.voice_id,
            speech.text_lang,
            {"synExt": options} if options else {},
            speech.voice_name,
            parse_choice(OutputType, output_type),
        )

    @property
    def audio_format(self) -> AudioFormat:
        """The format of the audio."""
        return AudioFormat(self.ext_param.get("synExt", {}).get("format", AudioFormat.WAV))


@dataclass(frozen=True)
class SynthesizedSpeech:
    """
    The audio of a short text.

    https://cloud.tencent.com/document/product/862/135348
    """

    audio_url: str | None = field(default=None, repr=False)
    """Signed URL of the audio, valid for 24 hours; ``None`` if MPS returned the audio itself."""
    audio_data: bytes | None = field(default=None, repr=False)
    """The audio; ``None`` if MPS returned a URL."""
    ext_info: dict[str, Any] = field(default_factory=dict)
    """Parsed ``ExtInfo``; empty if it is missing or invalid."""
    request_id: str = ""

    @property
    def duration(self) -> float | None:
        """Length of the audio in seconds; ``None`` if MPS does not report it."""
        return get_duration(self.ext_info)


def _make_options(audio_format: object, sample_rate: Any, target_duration: Any) -> ExtParam:
    """Return ``synExt`` with the given options; a template may leave each of them empty."""
    options: ExtParam = {}
    chosen = parse_choice(AudioFormat, AudioFormat.WAV if audio_format in (None, "") else audio_format)
    if chosen is not AudioFormat.WAV:
        options["format"] = chosen.value
    if sample_rate not in (None, "") and (rate := parse_whole_number("sample_rate", sample_rate)) is not None:
        if rate not in SYNTHESIS_SAMPLE_RATES:
            raise make_value_error(
                "sample_rate", sample_rate, f"one of {', '.join(map(str, SYNTHESIS_SAMPLE_RATES))} (Hz)"
            )
        options["sampleRate"] = rate
    if target_duration not in (None, "") and (seconds := parse_number("target_duration", target_duration)) is not None:
        if seconds <= 0:
            raise make_value_error("target_duration", target_duration, "a number of seconds above 0")
        options["duration"] = seconds
    return options
