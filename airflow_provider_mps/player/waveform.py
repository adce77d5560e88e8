"""How loud an audio is, from its start to its end."""

from __future__ import annotations

import time
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_mps.player.audio_object import AudioObject

BARS = 240
FRAMES_EACH = 8192
"""What is looked at of each bar's part of the audio, so that ten hours take no longer than ten minutes."""
MOST_BYTES = 32 * 1024 * 1024
"""Of an audio that must be read whole to be drawn: half an hour of MP3 and more."""
MOST_CHANNELS = 8
_SEEKABLE = {"audio/wav", "audio/flac"}
TIMEOUT = 30.0
"""Seconds."""


class NoWaveformError(Exception):
    """An audio cannot be drawn; the message tells why."""


@lru_cache(maxsize=256)
def draw(audio: AudioObject) -> tuple[float, ...]:
    """
    Return the loudest moment of each of :data:`BARS` equal parts, from 0 to 1; drawn once for each audio.

    :raises NoWaveformError: when it cannot be decoded, or not in time
    """
    import soundfile

    try:
        with _opened(audio) as file, soundfile.SoundFile(file) as sound:
            return tuple(_bars(sound))
    except NoWaveformError:
        raise
    except Exception as error:
        raise NoWaveformError(f"It cannot be drawn: {type(error).__name__}") from error


def _opened(audio: AudioObject) -> Any:
    """Open what can be sought in as it is; of the rest, a decoder reads all and more, so it is fetched at once."""
    if audio.content_type in _SEEKABLE:
        return audio.open()
    if audio.size > MOST_BYTES:
        raise NoWaveformError(f"It has {audio.size} bytes; of its kind, up to {MOST_BYTES} are drawn.")
    return BytesIO(b"".join(audio.read(0, audio.size)))


def _bars(sound: Any) -> list[float]:
    if sound.channels > MOST_CHANNELS:
        raise NoWaveformError(f"It has {sound.channels} channels, and up to {MOST_CHANNELS} are drawn.")
    deadline = time.monotonic() + TIMEOUT
    bars = min(BARS, sound.frames)
    peaks = []
    for bar in range(bars):
        if time.monotonic() > deadline:
            raise NoWaveformError(f"It took longer than {TIMEOUT:g} seconds to read.")
        first, behind = bar * sound.frames // bars, (bar + 1) * sound.frames // bars
        if first != sound.tell():
            sound.seek(first)
        block = sound.read(min(behind - first, FRAMES_EACH), dtype="float32")
        loudest = float(abs(block).max(initial=0.0))
        peaks.append(round(min(loudest, 1.0), 4) if loudest == loudest else 0.0)  # noqa: PLR0124 - NaN is not
    return peaks
