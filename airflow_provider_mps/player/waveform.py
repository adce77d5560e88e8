"""How loud an audio is, from its start to its end."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_mps.player.audio_object import AudioObject

BARS = 240
FRAMES_EACH = 8192
"""What is looked at of each bar's part of the audio, so that ten hours take no longer than ten minutes."""
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
        with audio.open() as file, soundfile.SoundFile(file) as sound:
            return tuple(_bars(sound))
    except NoWaveformError:
        raise
    except Exception as error:
        raise NoWaveformError(f"It cannot be drawn: {type(error).__name__}: {error}") from error


def _bars(sound: Any) -> list[float]:
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
        peaks.append(round(float(abs(block).max(initial=0.0)), 4))
    return peaks
