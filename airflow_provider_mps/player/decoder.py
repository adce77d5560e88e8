"""
Decode a whole audio in a process of its own.

``waveform.py`` runs this file as a script, with the audio as its standard input. The MP3 decoder (libmpg123, within
libsndfile) prints warnings to standard error, which soundfile cannot turn off; and a process that takes too long can be
killed, unlike a thread.
"""

from __future__ import annotations

import json
import sys
from io import BytesIO
from typing import Any

BARS = 240
MAX_CHANNELS = 8
_BLOCK_FRAMES = 65536

# The header of an MP3 frame (ISO/IEC 11172-3 and 13818-3), and its extension MPEG-2.5 to the lowest sampling rates.
_MPEG_1, _MPEG_2, _MPEG_2_5 = 3, 2, 0
_SAMPLE_RATES = {_MPEG_1: (44100, 48000, 32000), _MPEG_2: (22050, 24000, 16000), _MPEG_2_5: (11025, 12000, 8000)}
_KBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_KBITS_MPEG_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_INFO_BITRATE = 9
"""Index of a bitrate whose frames are long enough for an Info header."""


class NoWaveformError(Exception):
    """No waveform can be computed; the message says why."""


def compute_bar_bounds(frames: int) -> list[tuple[int, int]]:
    """Return for each bar the first frame of its part of the audio, and the frame after its last."""
    bars = min(BARS, frames)
    return [(bar * frames // bars, (bar + 1) * frames // bars) for bar in range(bars)]


def validate_channels(sound: Any) -> None:
    """
    Validate the number of channels.

    :raises NoWaveformError: if there are more than :data:`MAX_CHANNELS`
    """
    if sound.channels > MAX_CHANNELS:
        raise NoWaveformError(
            f"The audio has {sound.channels} channels; the waveform is limited to {MAX_CHANNELS} channels."
        )


def compute_peak(block: Any) -> float:
    """Return the peak of an array of samples, from 0 to 1."""
    peak_sample = float(abs(block).max(initial=0.0))
    return round(min(peak_sample, 1.0), 4) if peak_sample == peak_sample else 0.0  # noqa: PLR0124 - false for NaN


def decode(data: bytes) -> list[float]:
    """
    Return the peak of each of :data:`BARS` equal parts of an audio.

    :raises NoWaveformError: if it has too many channels
    """
    import soundfile

    class Sequential(soundfile.SoundFile):  # type: ignore[misc]
        def seekable(self) -> bool:
            """
            Return false, so that soundfile only reads.

            Otherwise it seeks after each read. Then libmpg123 loses the earlier frames that an MP3 frame needs (its bit
            reservoir), and returns silence.
            """
            return False

    with Sequential(BytesIO(add_frame_count(data))) as sound:
        validate_channels(sound)
        bars = []
        for first, stop in compute_bar_bounds(sound.frames):
            peak, missing = 0.0, stop - first
            while missing:
                block = sound.read(min(missing, _BLOCK_FRAMES), dtype="float32")
                if not len(block):
                    break
                peak, missing = max(peak, compute_peak(block)), missing - len(block)
            bars.append(peak)
        return bars


def add_frame_count(data: bytes) -> bytes:
    """
    Return an MP3 with a first frame that holds the number of frames.

    libsndfile reads that number of frames. Without it, libsndfile estimates the number by the bitrate of the first
    frame, which may be too low if the bitrate varies. In joined MP3s, the first number counts only the first MP3.

    :return: ``data`` itself if the count is right, or if it is not an MP3 or has other data between its frames
    """
    start = position = _get_tag_length(data)
    frames = 0
    while length := _get_frame_length(data, position):
        frames, position = frames + 1, position + length
    if not frames or len(data) - position > len(data) // 20:
        return data
    first = data[start : start + 64]
    at = max(first.find(b"Xing", 0, 48), first.find(b"Info", 0, 48))
    is_counted = at >= 0 and first[at + 7] & 1
    if is_counted and int.from_bytes(first[at + 8 : at + 12]) >= frames - 1:
        return data
    head = bytes([0xFF, first[1] | 1, _INFO_BITRATE << 4 | first[2] & 0b1100, first[3]])
    is_mono, is_mpeg_1 = head[3] >> 6 == 3, head[1] >> 3 & 3 == _MPEG_1  # noqa: PLR2004 - the channel mode
    side_information = (17 if is_mono else 32) if is_mpeg_1 else (9 if is_mono else 17)
    information = head + bytes(side_information) + b"Info" + (1).to_bytes(4) + frames.to_bytes(4)
    return information.ljust(_get_frame_length(head, 0), b"\0") + data[start:]


def _get_tag_length(data: bytes) -> int:
    """Return the length of the ID3v2 tag before the first frame: https://id3.org/id3v2.4.0-structure."""
    if data[:3] != b"ID3" or len(data) < 10:  # noqa: PLR2004 - the header of a tag
        return 0
    size = sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    return size + (20 if data[5] & 0x10 else 10)


def _get_frame_length(data: bytes, position: int) -> int:
    """Return the length of the MP3 frame at a position; 0 if there is none."""
    head = data[position : position + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0b1110_0110 != 0b1110_0010:  # noqa: PLR2004 - sync word, layer III
        return 0
    version, bitrate, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version not in _SAMPLE_RATES or bitrate in {0, 15} or rate == 3:  # noqa: PLR2004 - reserved, or no bitrate
        return 0
    is_mpeg_1 = version == _MPEG_1
    bits = (_KBITS_MPEG_1 if is_mpeg_1 else _KBITS)[bitrate] * 1000
    return (144 if is_mpeg_1 else 72) * bits // _SAMPLE_RATES[version][rate] + (head[2] >> 1 & 1)


def main() -> None:
    """Decode the standard input, and write the result as JSON to the standard output."""
    result: dict[str, Any]
    try:
        result = {"bars": decode(sys.stdin.buffer.read())}
    except NoWaveformError as error:
        result = {"problem": str(error)}
    except Exception as error:  # noqa: BLE001 - the parent process reports it
        result = {"problem": f"The audio cannot be decoded: {type(error).__name__}"}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
