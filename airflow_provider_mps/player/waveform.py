"""How loud an audio is, from its start to its end."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.player import decoder
from airflow_provider_mps.player.decoder import BARS, NoWaveformError, bar_bounds, peak_of, require_few_channels
from airflow_provider_mps.player.wav import with_known_length

if TYPE_CHECKING:
    from airflow_provider_mps.player.audio_object import AudioObject

__all__ = ["BARS", "TIMEOUT", "NoWaveformError", "draw"]

FRAMES_EACH = 8192
"""What is looked at of each bar's part of the audio, so that ten hours take no longer than ten minutes."""
MOST_BYTES = 32 * 1024 * 1024
"""Of an audio that must be read whole to be drawn: half an hour of MP3 and more."""
_SEEKABLE = {"audio/wav", "audio/flac"}
TIMEOUT = 30.0
"""Seconds."""
_DECODERS = threading.BoundedSemaphore(2)
"""Processes that decode at the same time; each takes one core and up to 200 MB."""


@lru_cache(maxsize=256)
def draw(audio: AudioObject) -> tuple[float, ...]:
    """
    Return the loudest moment of each of :data:`BARS` equal parts, from 0 to 1; drawn once for each audio.

    :raises NoWaveformError: when it cannot be decoded, or not in time
    """
    deadline = time.monotonic() + TIMEOUT
    try:
        return tuple(_sample(audio, deadline) if audio.content_type in _SEEKABLE else _decode(audio, deadline))
    except NoWaveformError:
        raise
    except subprocess.TimeoutExpired as error:
        raise _too_slow() from error
    except Exception as error:
        raise NoWaveformError(f"It cannot be drawn: {type(error).__name__}") from error


def _sample(audio: AudioObject, deadline: float) -> list[float]:
    """Look at the beginning of each bar's part, which is all that is read of the audio."""
    import soundfile

    with audio.open() as file:
        # Nothing is to close the file before soundfile does, which still looks at it.
        opened = with_known_length(file, audio.size) if audio.content_type == "audio/wav" else file
        with soundfile.SoundFile(opened) as sound:
            return _peaks(sound, deadline)


def _peaks(sound: Any, deadline: float) -> list[float]:
    require_few_channels(sound)
    peaks = []
    for first, stop in bar_bounds(sound.frames):
        if not _left(deadline):
            raise _too_slow()
        if first != sound.tell():
            sound.seek(first)
        peaks.append(peak_of(sound.read(min(stop - first, FRAMES_EACH), dtype="float32")))
    return peaks


def _decode(audio: AudioObject, deadline: float) -> list[float]:
    """Decode the whole audio in another process: where none of it can be skipped, or a seek is not exact."""
    if audio.size > MOST_BYTES:
        raise NoWaveformError(f"It has {audio.size} bytes; of its kind, up to {MOST_BYTES} are drawn.")
    if not _DECODERS.acquire(timeout=_left(deadline)):
        raise _too_slow()
    try:
        blocks = []
        for block in audio.read(0, audio.size):
            blocks.append(block)
            if not _left(deadline):
                raise _too_slow()
        done = subprocess.run(  # noqa: S603 - this Python, and a file of this package
            [sys.executable, "-P", decoder.__file__],
            input=b"".join(blocks),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_left(deadline),
            check=True,
        )
    finally:
        _DECODERS.release()
    result = json.loads(done.stdout)
    if problem := result.get("problem"):
        raise NoWaveformError(problem)
    bars: list[float] = result["bars"]
    return bars


def _left(deadline: float) -> float:
    """Return the seconds until a deadline."""
    return max(0.0, deadline - time.monotonic())


def _too_slow() -> NoWaveformError:
    return NoWaveformError(f"It took longer than {TIMEOUT:g} seconds to read.")
