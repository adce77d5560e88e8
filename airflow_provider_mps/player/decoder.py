"""
Decode an audio from its start to its end, in a process of its own.

``waveform.py`` runs this file as a script, with the audio as its standard input. The decoder of MP3 (libmpg123, within
libsndfile) prints to the standard error of its process whatever it finds odd in an audio, which no option of soundfile
turns off; and a process that takes too long can be ended, which a thread cannot.
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
"""Index of a bitrate at which a frame is long enough to hold its information."""


class NoWaveformError(Exception):
    """An audio cannot be drawn; the message says why."""


def bar_bounds(frames: int) -> list[tuple[int, int]]:
    """Return the first frame of each bar's part of the audio, and the one behind its last."""
    bars = min(BARS, frames)
    return [(bar * frames // bars, (bar + 1) * frames // bars) for bar in range(bars)]


def require_few_channels(sound: Any) -> None:
    """
    Check the number of channels.

    :raises NoWaveformError: when there are more than :data:`MAX_CHANNELS`
    """
    if sound.channels > MAX_CHANNELS:
        raise NoWaveformError(f"It has {sound.channels} channels, and up to {MAX_CHANNELS} are drawn.")


def peak_of(block: Any) -> float:
    """Return the loudest sample of an array of samples, from 0 to 1."""
    loudest = float(abs(block).max(initial=0.0))
    return round(min(loudest, 1.0), 4) if loudest == loudest else 0.0  # noqa: PLR0124 - NaN is not


def decode(data: bytes) -> list[float]:
    """
    Return the loudest sample of each of :data:`BARS` equal parts of an audio.

    :raises NoWaveformError: when it has too many channels
    """
    import soundfile  # noqa: PLC0415 - this process may lack it, and says so

    class Sequential(soundfile.SoundFile):  # type: ignore[misc]
        def seekable(self) -> bool:
            """
            Return false: soundfile then only reads.

            It otherwise seeks after each read, to where it is already. libmpg123 forgets by that the earlier frames
            that an MP3 frame needs (its bit reservoir): it returns silence, and prints an error for each frame.
            """
            return False

    with Sequential(BytesIO(with_frame_count(data))) as sound:
        require_few_channels(sound)
        bars = []
        for first, stop in bar_bounds(sound.frames):
            peak, missing = 0.0, stop - first
            while missing:
                block = sound.read(min(missing, _BLOCK_FRAMES), dtype="float32")
                if not len(block):
                    break
                peak, missing = max(peak, peak_of(block)), missing - len(block)
            bars.append(peak)
        return bars


def with_frame_count(data: bytes) -> bytes:
    """
    Return an MP3 whose first frame says how many frames there are, where it does not say so yet.

    libsndfile reads no more than that, or else than the bitrate of the first frame lets it expect. That is too little
    where the bitrate varies, or where several MP3s were joined, the first of which counts its own frames only.

    :return: ``data`` itself where the count is right, or where it is no MP3 or one with other data between its frames
    """
    start = position = _tag_length(data)
    frames = 0
    while length := _frame_length(data, position):
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
    return information.ljust(_frame_length(head, 0), b"\0") + data[start:]


def _tag_length(data: bytes) -> int:
    """Return the length of the ID3v2 tag before the first frame: https://id3.org/id3v2.4.0-structure."""
    if data[:3] != b"ID3" or len(data) < 10:  # noqa: PLR2004 - the header of a tag
        return 0
    size = sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    return size + (20 if data[5] & 0x10 else 10)


def _frame_length(data: bytes, position: int) -> int:
    """Return the length of the MP3 frame that begins there; 0 where none does."""
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
    """Decode the standard input, and write what comes of it to the standard output, as JSON."""
    result: dict[str, Any]
    try:
        result = {"bars": decode(sys.stdin.buffer.read())}
    except NoWaveformError as error:
        result = {"problem": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever it is, the process that reads this reports it
        result = {"problem": f"It cannot be drawn: {type(error).__name__}"}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
