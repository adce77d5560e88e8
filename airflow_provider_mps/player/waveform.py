"""Compute the waveform of an audio: the peak of each of its parts."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.player import decoder
from airflow_provider_mps.player.decoder import (
    BARS,
    NoWaveformError,
    compute_bar_bounds,
    compute_peak,
    validate_channels,
)
from airflow_provider_mps.player.wav import correct_length

if TYPE_CHECKING:
    from airflow_provider_mps.player.audio_file import AudioFile

__all__ = ["BARS", "TIMEOUT_SECONDS", "NoWaveformError", "compute_waveform"]

FRAMES_PER_BAR = 8192
"""Frames that are read of each part, so that ten hours take no longer than ten minutes."""
MAX_DECODED_BYTES = 32 * 1024 * 1024
"""Limit of an audio that must be decoded as a whole: 14 minutes of MP3 at 320 kbit/s, 35 at 128 kbit/s."""
_SEEKABLE = {"audio/wav", "audio/flac"}
TIMEOUT_SECONDS = 30.0
_DECODERS = threading.BoundedSemaphore(2)
"""Limit of decoder processes; each takes one core and up to 200 MB."""


@lru_cache(maxsize=256)
def compute_waveform(audio: AudioFile) -> tuple[float, ...]:
    """
    Return the peak of each of :data:`BARS` equal parts, from 0 to 1; cached per audio.

    :raises NoWaveformError: if it cannot be decoded, or not in time
    """
    deadline = time.monotonic() + TIMEOUT_SECONDS
    try:
        return tuple(_read_samples(audio, deadline) if audio.content_type in _SEEKABLE else _decode(audio, deadline))
    except NoWaveformError:
        raise
    except subprocess.TimeoutExpired as error:
        raise _make_timeout_error() from error
    except Exception as error:
        raise NoWaveformError(f"The audio cannot be decoded: {type(error).__name__}") from error


def _read_samples(audio: AudioFile, deadline: float) -> list[float]:
    """Read only the beginning of each part."""
    import soundfile

    with audio.open() as file:
        # The file must outlive the SoundFile, whose closing still accesses it.
        opened = correct_length(file, audio.size) if audio.content_type == "audio/wav" else file
        with soundfile.SoundFile(opened) as sound:
            return _compute_peaks(sound, deadline)


def _compute_peaks(sound: Any, deadline: float) -> list[float]:
    validate_channels(sound)
    peaks = []
    for first, stop in compute_bar_bounds(sound.frames):
        if not _get_remaining(deadline):
            raise _make_timeout_error()
        if first != sound.tell():
            sound.seek(first)
        peaks.append(compute_peak(sound.read(min(stop - first, FRAMES_PER_BAR), dtype="float32")))
    return peaks


def _decode(audio: AudioFile, deadline: float) -> list[float]:
    """Decode the whole audio in another process, for formats in which a seek is not exact."""
    if audio.size > MAX_DECODED_BYTES:
        raise NoWaveformError(
            f"The audio has {audio.size} bytes; the waveform of this format is limited to {MAX_DECODED_BYTES} bytes."
        )
    if not _DECODERS.acquire(timeout=_get_remaining(deadline)):
        raise _make_timeout_error()
    try:
        blocks = []
        for block in audio.read(0, audio.size):
            blocks.append(block)
            if not _get_remaining(deadline):
                raise _make_timeout_error()
        done = subprocess.run(  # noqa: S603 - this Python, and a file of this package
            [sys.executable, "-P", decoder.__file__],
            input=b"".join(blocks),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_get_remaining(deadline),
            check=True,
        )
    finally:
        _DECODERS.release()
    result = json.loads(done.stdout)
    if problem := result.get("problem"):
        raise NoWaveformError(problem)
    bars: list[float] = result["bars"]
    return bars


def _get_remaining(deadline: float) -> float:
    """Return the seconds until a deadline."""
    return max(0.0, deadline - time.monotonic())


def _make_timeout_error() -> NoWaveformError:
    return NoWaveformError(f"Reading the audio took longer than {TIMEOUT_SECONDS:g} seconds.")
