"""Decode clips, convert their sample rates, and encode a track, all in blocks of samples."""

from __future__ import annotations

import errno
import os
import struct
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np
import soundfile
import soxr
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mps.batch.track.temporary_file import translate_temporary_errors, write_all
from airflow_provider_mps.player.wav import find_unset_length

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_mps.batch.row import Row

    Samples = np.ndarray[Any, np.dtype[np.int16]]

BLOCK_SAMPLES = 256 * 1024
FADE_SECONDS = 0.01
"""Length of the fade at the end of a clip that is cut, which avoids a click."""
_FLOAT_SUBTYPES = {"FLOAT", "DOUBLE"}
_MAX_RIFF_BYTES = 0xFFFFFFFF
"""Longest content of a WAV file: its header has 32 bits for it."""
_WAV_HEADER_BYTES = 80


class Clip:
    """
    The samples of a clip, as 16-bit mono.

    :param file: the audio; closed together with the clip
    """

    def __init__(self, row: Row, file: IO[bytes]) -> None:
        self._row = row
        self._file = file
        try:
            with translate_temporary_errors():
                self._set_length()
            # By its descriptor: a signal handler cannot raise in the callbacks that a Python file would need.
            self._sound = soundfile.SoundFile(file.fileno(), closefd=False)
        except soundfile.SoundFileError as error:
            file.close()
            raise self._make_error(error) from error
        self.rate: int = self._sound.samplerate

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *_: object) -> None:
        self._sound.close()
        self._file.close()

    def read(self, rate: int) -> Iterator[Samples]:
        """
        Yield the samples in blocks.

        :param rate: the sample rate to convert to, in Hz
        :raises AirflowFailException: if the clip is damaged
        """
        if rate == self.rate:
            yield from self._read_blocks()
            return
        stream = soxr.ResampleStream(self.rate, rate, 1, dtype="int16")
        for block in self._read_blocks():
            yield stream.resample_chunk(block)
        yield stream.resample_chunk(np.zeros(0, np.int16), last=True)

    def _read_blocks(self) -> Iterator[Samples]:
        is_float = self._sound.subtype in _FLOAT_SUBTYPES  # libsndfile does not scale these
        count = max(1, BLOCK_SAMPLES // self._sound.channels)
        while True:
            try:
                block = self._sound.read(count, dtype="float32" if is_float else "int16", always_2d=True)
            except soundfile.SoundFileError as error:
                raise self._make_error(error) from error
            if not len(block):
                return
            if is_float:
                block = (np.clip(np.nan_to_num(block), -1.0, 1.0) * 32767).astype(np.int16)
            yield block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32).astype(np.int16)

    def _set_length(self) -> None:
        """Set the length in the header of a WAV file that was streamed, which libsndfile would take for empty."""
        size = self._file.seek(0, os.SEEK_END)
        if field := find_unset_length(self._file, size):
            self._file.seek(field[0])
            self._file.write(field[1])
        self._file.seek(0)

    def _make_error(self, error: Exception) -> AirflowFailException:
        return AirflowFailException(
            f"The clip of line {self._row.id} at {self._row.path} cannot be decoded ({error}), so no track was stored. "
            "It is what the batch has stored: check how it was made, or remove its line from the manifest."
        )


class Encoder(Protocol):
    """Writes samples in the format of a track."""

    def write(self, samples: Samples, /) -> None:
        """Append samples."""

    def ensure_space(self, samples: int, /) -> None:
        """
        Check that there is room for silence, rather than fill the disk with it.

        :raises OSError: if there is not
        """

    def close(self) -> None:
        """Complete the file."""


class WavEncoder:
    """
    Writes 16-bit mono WAV; RF64, which has lengths of 64 bits, if it gets longer than 4 GiB.

    The header has room for both: https://tech.ebu.ch/docs/tech/tech3306.pdf
    """

    def __init__(self, file: IO[bytes], rate: int) -> None:
        self._file = file
        self._rate = rate
        self._samples = 0
        write_all(file, bytes(_WAV_HEADER_BYTES))

    def write(self, samples: Samples, /) -> None:
        """Append samples."""
        write_all(self._file, np.ascontiguousarray(samples, "<i2").data)
        self._samples += len(samples)

    def ensure_space(self, samples: int, /) -> None:
        """Check that there is room for silence."""
        disk = os.fstatvfs(self._file.fileno())
        if disk.f_bavail * disk.f_frsize < 2 * samples:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Write the header."""
        length = 2 * self._samples
        is_long = length + _WAV_HEADER_BYTES - 8 > _MAX_RIFF_BYTES
        sizes = struct.pack("<QQQI", length + _WAV_HEADER_BYTES - 8, length, self._samples, 0) if is_long else bytes(28)
        riff_size = _MAX_RIFF_BYTES if is_long else length + _WAV_HEADER_BYTES - 8
        header = struct.pack("<4sI4s", b"RF64" if is_long else b"RIFF", riff_size, b"WAVE")
        header += struct.pack("<4sI", b"ds64" if is_long else b"JUNK", 28) + sizes
        header += struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, self._rate, 2 * self._rate, 2, 16)
        header += struct.pack("<4sI", b"data", _MAX_RIFF_BYTES if is_long else length)
        self._file.seek(0)
        write_all(self._file, header)


class SoundFileEncoder:
    """Writes FLAC or MP3 with libsndfile."""

    def __init__(self, file: IO[bytes], rate: int, audio_format: str) -> None:
        self._file = file
        self._samples = 0
        subtype = "PCM_16" if audio_format == "FLAC" else None
        self._sound = soundfile.SoundFile(
            file.fileno(), "w", samplerate=rate, channels=1, format=audio_format, subtype=subtype, closefd=False
        )

    def write(self, samples: Samples, /) -> None:
        """Append samples."""
        try:
            self._sound.write(samples)
        except (soundfile.SoundFileError, AssertionError) as error:  # soundfile asserts that all samples were written
            raise self._make_error(error) from error
        self._samples += len(samples)

    def ensure_space(self, samples: int, /) -> None:
        """Do nothing: silence takes hardly any space."""

    def close(self) -> None:
        """Complete the file, and check that nothing is missing: libsndfile does not report all errors of the disk."""
        self._sound.close()
        self._file.seek(0)
        try:
            with soundfile.SoundFile(self._file.fileno(), closefd=False) as written:
                is_complete = written.frames >= self._samples
        except soundfile.SoundFileError as error:
            raise self._make_error(error) from error
        if not is_complete:
            raise self._make_error(None)

    def _make_error(self, error: Exception | None) -> OSError:
        disk = os.fstatvfs(self._file.fileno())
        code = errno.ENOSPC if disk.f_bavail * disk.f_frsize < 1024 * 1024 else errno.EIO
        return OSError(code, f"libsndfile could not write the track: {error or 'it is incomplete'}")


def open_encoder(file: IO[bytes], rate: int, audio_format: str) -> Encoder:
    """Return the encoder of a format of :data:`.options.AUDIO_SUFFIXES`."""
    return WavEncoder(file, rate) if audio_format == "WAV" else SoundFileEncoder(file, rate, audio_format)


def can_encode(audio_format: str) -> bool:
    """Return whether the libsndfile of this machine writes a format."""
    return audio_format == "WAV" or audio_format in soundfile.available_formats()


class Track:
    """
    The samples of a track, in order.

    :param rate: sample rate in Hz
    """

    def __init__(self, encoder: Encoder, rate: int) -> None:
        self._encoder = encoder
        self.rate = rate
        self.length = 0
        """Samples."""

    def write(self, samples: Samples) -> None:
        """Append samples."""
        if len(samples):
            with translate_temporary_errors():
                self._encoder.write(samples)
            self.length += len(samples)

    def fill_until(self, position: int, on_block: Callable[[], None] = lambda: None) -> None:
        """
        Append silence until the track is ``position`` samples long; nothing if it is longer already.

        :param on_block: called after each block
        """
        if position - self.length > BLOCK_SAMPLES:
            with translate_temporary_errors():
                self._encoder.ensure_space(position - self.length)
        silence = np.zeros(min(BLOCK_SAMPLES, max(0, position - self.length)), np.int16)
        while (left := position - self.length) > 0:
            self.write(silence[:left])
            on_block()

    def close(self) -> None:
        """Complete the file."""
        with translate_temporary_errors():
            self._encoder.close()


def write_clip(track: Track, blocks: Iterator[Samples], limit: int | None) -> tuple[int, bool]:
    """
    Append a clip; if it is longer than a limit, cut and fade it out there.

    :param blocks: the samples of the clip
    :param limit: the most samples to write; ``None`` for all
    :return: how many samples were written, and whether the clip was cut
    """
    begin = track.length
    if limit is None:
        for block in blocks:
            track.write(block)
        return track.length - begin, False
    fade = min(limit, round(FADE_SECONDS * track.rate))
    length = 0
    tail = np.zeros(0, np.int16)  # the last samples before the limit, kept until it is known whether they must fade
    for block in blocks:
        plain = block[: max(0, limit - fade - length)]
        track.write(plain)
        tail = np.concatenate([tail, block[len(plain) :][: fade - len(tail)]])
        length += len(block)
        if length > limit:
            break
    is_cut = length > limit
    if is_cut:
        tail = (tail * np.linspace(1.0, 0.0, len(tail), dtype=np.float32)).astype(np.int16)
    track.write(tail)
    return track.length - begin, is_cut
