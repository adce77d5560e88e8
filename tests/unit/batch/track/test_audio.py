import io
import struct
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.track import audio
from airflow_provider_mps.batch.track.audio import Clip, Track, WavEncoder, open_encoder, write_clip
from airflow_provider_mps.batch.track.temporary_file import open_temporary_file
from airflow_provider_mps.exceptions import AudioTransferError
from tests.tracks import RATE, encode, tone

ROW = Row("clip-1", 1, LineStatus.STORED, path="file:///clips/clip-1.wav")


def open_clip(content):
    file = open_temporary_file()
    file.write(content)
    file.seek(0)
    return Clip(ROW, file)


def read(content, rate=RATE):
    with open_clip(content) as clip:
        return np.concatenate([*clip.read(rate), np.zeros(0, np.int16)])


class Samples:
    """An encoder that keeps the samples."""

    def __init__(self):
        self.blocks = []

    def write(self, samples):
        self.blocks.append(samples.copy())

    def ensure_space(self, samples):
        pass

    def close(self):
        pass

    @property
    def all(self):
        return np.concatenate(self.blocks)


def sine(seconds, rate=RATE):
    return (np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * 440 / rate) * 10_000).astype(np.int16)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_U8", "FLOAT", "DOUBLE", "ULAW"])
def test_wav_of_any_kind_is_decoded(subtype):
    samples = sine(0.5)
    is_float = subtype in {"FLOAT", "DOUBLE"}  # libsndfile does not scale them
    decoded = read(encode(samples / 32768 if is_float else samples, subtype=subtype))
    assert len(decoded) == len(samples)
    assert np.abs(decoded.astype(int) - samples).max() <= 520  # eight bits


def test_float_samples_beyond_range_are_clipped():
    assert list(read(encode(np.array([2.0, -2.0, np.nan, 0.5], np.float32), subtype="FLOAT"))) == [
        32767,
        -32767,
        0,
        16383,
    ]


def test_channels_are_averaged():
    stereo = np.column_stack([tone(0.1, 1000), tone(0.1, 3000)])
    assert set(read(encode(stereo))) == {2000}


def test_mp3_is_decoded():
    decoded = read(encode(sine(1), audio_format="MP3"))
    assert len(decoded) == RATE
    assert np.abs(decoded[4000:12000].astype(int) - sine(1)[4000:12000]).max() < 1000


def test_streamed_wav_without_length_is_decoded():
    content = bytearray(encode(tone(0.25)))
    content[content.index(b"data") + 4 : content.index(b"data") + 8] = bytes(4)
    assert len(read(bytes(content))) == 4000


@pytest.mark.parametrize("rate", [8000, 24_000, 44_100])
def test_sample_rate_is_converted_in_blocks(rate, monkeypatch):
    monkeypatch.setattr(audio, "BLOCK_SAMPLES", 1000)
    converted = read(encode(sine(1)), rate)
    assert abs(len(converted) - rate) <= 1
    middle = slice(rate // 4, rate // 2)
    assert np.abs(converted[middle].astype(int) - sine(1, rate)[middle]).max() < 100


@pytest.mark.parametrize("content", [b"", b"RIFF", b"<html>not found</html>" * 100])
def test_file_that_is_no_audio_names_line(content):
    with pytest.raises(AirflowFailException, match=r"The clip of line clip-1 at file:///clips/clip-1\.wav cannot be"):
        open_clip(content)


@pytest.mark.parametrize("audio_format", ["WAV", "FLAC", "MP3"])
def test_encoded_track_is_read_by_libsndfile(audio_format):
    with open_temporary_file() as file:
        with closing(open_encoder(file, RATE, audio_format)) as encoder:
            for _ in range(3):
                encoder.write(tone(0.5, 500))
        file.seek(0)
        content = file.read()
    info = soundfile.info(io.BytesIO(content))
    assert (info.format, info.samplerate, info.channels, info.frames) == (audio_format, RATE, 1, 24_000)


def test_wav_beyond_4_gib_becomes_rf64(monkeypatch):
    monkeypatch.setattr(audio, "_MAX_RIFF_BYTES", 10_000)
    with open_temporary_file() as file:
        with closing(WavEncoder(file, RATE)) as encoder:
            encoder.write(tone(1))
        file.seek(0)
        content = file.read()
    # The limit above is also what the header has in place of its 32-bit lengths.
    content = content.replace(struct.pack("<I", 10_000), struct.pack("<I", 0xFFFFFFFF))
    info = soundfile.info(io.BytesIO(content))
    assert (info.format, info.frames) == ("RF64", RATE)


def test_full_disk_is_reported_with_temporary_folder():
    with Path("/dev/full").open("wb", buffering=0) as full:
        encoder = Samples()
        encoder.write = lambda samples: full.write(samples.data)
        with pytest.raises(AudioTransferError, match=r"The temporary folder .* is full, so no track was stored"):
            Track(encoder, RATE).write(tone(1))


@pytest.mark.parametrize("block", [7, 100, 160, 1000])
def test_cut_clip_fades_out_within_limit(block):
    encoder = Samples()
    track = Track(encoder, RATE)
    blocks = [tone(block / RATE)] * (-(-2000 // block))
    assert write_clip(track, iter(blocks), 1000) == (1000, True)
    assert track.length == 1000
    fade = encoder.all[-160:]
    assert set(encoder.all[:-160]) == {8000}
    assert (fade[0], fade[-1]) == (8000, 0)
    assert (np.diff(fade) <= 0).all()


@pytest.mark.parametrize("length", [500, 995, 1000])
def test_clip_within_limit_is_not_faded(length):
    encoder = Samples()
    assert write_clip(Track(encoder, RATE), iter([tone(length / RATE)]), 1000) == (length, False)
    assert set(encoder.all) == {8000}
    assert len(encoder.all) == length


def test_clip_without_room_is_left_out():
    encoder = Samples()
    assert write_clip(Track(encoder, RATE), iter([tone(1)]), 0) == (0, True)
    assert encoder.blocks == []


def test_silence_fills_gap():
    encoder = Samples()
    track = Track(encoder, RATE)
    track.fill_until(600_000)
    track.fill_until(10)
    assert (track.length, len(encoder.all), encoder.all.any()) == (600_000, 600_000, False)
