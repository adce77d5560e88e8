"""Turn text into WAV or MP3: speech by ``espeak-ng`` if it is installed, else a tone of plausible length."""

from __future__ import annotations

import io
import math
import shutil
import subprocess
import tempfile
import wave
from array import array
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SAMPLE_RATES = (8000, 16000, 22050, 32000, 44100)
DEFAULT_SAMPLE_RATE = 16000
SECONDS_PER_CHARACTER = 0.065
MIN_SECONDS = 0.2
MAX_TONE_SECONDS = 3600.0
"""Limit for any text, because a tone is made in memory."""

Voice = Literal["auto", "espeak-ng", "tone"]
AudioFormat = Literal["wav", "mp3"]


@dataclass(frozen=True)
class Style:
    """The options of ``ExtParam.synExt``."""

    sample_rate: int = DEFAULT_SAMPLE_RATE
    """Hertz."""
    pitch: int = 0
    """-12 to 12."""
    duration: float | None = None
    """Seconds; the speech is cut or padded with silence to this length."""
    audio_format: AudioFormat = "wav"


def speak(text: str, language: str | None = None, style: Style | None = None, voice: Voice = "auto") -> bytes:
    """
    Return a mono 16-bit WAV of the text, or an MP3.

    :param language: a language tag such as ``en``; ignored if espeak-ng does not know it
    :param voice: ``tone`` needs no program and is quick; ``auto`` uses espeak-ng if it is installed
    :raises FileNotFoundError: if ``espeak-ng`` is requested and not installed
    """
    style = style or Style()
    program = None if voice == "tone" else shutil.which("espeak-ng")
    if program is not None:
        samples = _espeak(program, text, language, style)
    elif voice == "espeak-ng":
        raise FileNotFoundError("espeak-ng is not installed; use --voice tone, or install Debian's espeak-ng")
    else:
        samples = _tone(len(text), style)
    if style.duration is not None:
        frames = round(style.duration * style.sample_rate)
        samples = samples[:frames] + array("h", bytes(2 * max(0, frames - len(samples))))
    wav = _wav(samples, style.sample_rate)
    return _encode_mp3(wav) if style.audio_format == "mp3" else wav


def write_tone(path: Path, duration: float, style: Style) -> None:
    """
    Write a tone as a WAV, second by second, so that it can be larger than memory.

    :param duration: seconds; the duration of ``style`` is ignored
    """
    second = _second_of_tone(style).tobytes()
    with wave.open(str(path), "wb") as audio:
        _set_format(audio, style.sample_rate)
        whole, rest = divmod(round(duration * style.sample_rate), style.sample_rate)
        for _ in range(whole):
            audio.writeframes(second)
        audio.writeframes(second[: 2 * rest])


def measure_seconds(audio: bytes | Path) -> float:
    """
    Return the length of a WAV or an MP3 in seconds.

    :raises ValueError: if it is neither
    """
    source = str(audio) if isinstance(audio, Path) else io.BytesIO(audio)
    with suppress(wave.Error, EOFError), wave.open(source, "rb") as wav:
        return int(wav.getnframes()) / int(wav.getframerate())
    import soundfile

    try:
        return float(soundfile.info(str(audio) if isinstance(audio, Path) else io.BytesIO(audio)).duration)
    except soundfile.LibsndfileError as error:
        raise ValueError("neither WAV nor MP3") from error


def _tone(characters: int, style: Style) -> array[int]:
    second = _second_of_tone(style)
    frames = round(min(max(MIN_SECONDS, SECONDS_PER_CHARACTER * characters), MAX_TONE_SECONDS) * style.sample_rate)
    whole, rest = divmod(frames, style.sample_rate)
    return second * whole + second[:rest]


def _second_of_tone(style: Style) -> array[int]:
    step = 2 * math.pi * 220 * 2 ** (style.pitch / 12) / style.sample_rate
    return array("h", (round(6000 * math.sin(step * i)) for i in range(style.sample_rate)))


def _espeak(program: str, text: str, language: str | None, style: Style) -> array[int]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "speech.wav")
        command = [program, "--stdin", "-w", str(file), "-p", str(50 + 4 * style.pitch)]
        spoken = [*command, "-v", language] if language and language.isascii() else command
        for attempt in (spoken, command):  # again without the language if espeak-ng does not know it
            done = subprocess.run(attempt, input=text.encode("utf-8", "replace"), capture_output=True, check=False)  # noqa: S603 - no shell
            if done.returncode == 0 and file.exists() and file.stat().st_size:
                break
        with wave.open(str(file)) as audio:
            samples, rate = array("h", audio.readframes(audio.getnframes())), audio.getframerate()
    return _resample(samples, rate, style.sample_rate) or _tone(len(text), style)


def _resample(samples: array[int], rate: int, target_rate: int) -> array[int]:
    if rate == target_rate or not samples:
        return samples
    step = rate / target_rate
    frames = int((len(samples) - 1) / step) + 1
    resampled = array("h", bytes(2 * frames))
    for i in range(frames):
        position = i * step
        left = int(position)
        here, after = samples[left], samples[min(left + 1, len(samples) - 1)]
        resampled[i] = round(here + (after - here) * (position - left))
    return resampled


def _wav(samples: array[int], rate: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as audio:
        _set_format(audio, rate)
        audio.writeframes(samples.tobytes())
    return buffer.getvalue()


def _encode_mp3(wav: bytes) -> bytes:
    import soundfile

    samples, rate = soundfile.read(io.BytesIO(wav), dtype="int16")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="MP3")
    return buffer.getvalue()


def _set_format(audio: wave.Wave_write, rate: int) -> None:
    audio.setnchannels(1)
    audio.setsampwidth(2)
    audio.setframerate(rate)
