import io
import struct
import threading
import wave
from array import array

import numpy as np
import pytest
import soundfile

from airflow_provider_mps.player import decoder, waveform
from airflow_provider_mps.player.audio_file import AudioFile
from airflow_provider_mps.player.waveform import BARS, NoWaveformError, compute_waveform


def wav(*parts):
    """One second of each of the levels, from 0 to 1."""
    samples = array("h", (sign * round(level * 32767) for level in parts for sign in [1, -1] * 4000))
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as audio:
        audio.setparams((1, 2, 8000, 0, "NONE", ""))
        audio.writeframes(samples.tobytes())
    return buffer.getvalue()


@pytest.fixture
def audio_of(tmp_path):
    def store(data):
        (tmp_path / "clip.wav").write_bytes(data)
        return AudioFile.find(f"file://{tmp_path}/clip.wav")

    return store


def test_each_bar_is_the_peak_of_its_part(audio_of):
    bars = compute_waveform(audio_of(wav(0.5, 0.0, 1.0, 0.25)))
    assert len(bars) == BARS
    quarter = BARS // 4
    for part, level in enumerate([0.5, 0.0, 1.0, 0.25]):
        assert bars[part * quarter : (part + 1) * quarter] == pytest.approx([level] * quarter, abs=0.001)


def test_only_the_beginning_of_a_long_part_is_read(audio_of, monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.player.waveform.FRAMES_PER_BAR", 10)
    quiet, loud = wav(*[0.5] * 60), b"\xff\x7f"
    position = 44 + 2 * 8000 - len(loud)  # the last frame of the first second, which has four bars
    assert compute_waveform(audio_of(quiet[:position] + loud + quiet[position + len(loud) :])) == pytest.approx(
        [0.5] * BARS, abs=0.001
    )


def test_audio_of_few_frames_has_as_few_bars(audio_of):
    data = wav(0.5)[: 44 + 2 * 5]
    assert 0 < len(compute_waveform(audio_of(data))) <= 5


def test_waveform_is_cached(audio_of, monkeypatch):
    audio = audio_of(wav(0.5))
    first = compute_waveform(audio)
    monkeypatch.setattr(AudioFile, "open", None)
    assert compute_waveform(audio) is first


def test_audio_that_cannot_be_decoded_is_an_error(audio_of):
    with pytest.raises(NoWaveformError, match="cannot be decoded"):
        compute_waveform(audio_of(b"RIFF\x00\x00\x00\x00WAVEnonsense"))


def test_slow_storage_ends_with_an_error(audio_of, monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.player.waveform.TIMEOUT_SECONDS", -1.0)
    with pytest.raises(NoWaveformError, match="took longer"):
        compute_waveform(audio_of(wav(0.5)))


def test_long_audio_without_seeking_is_not_read(audio_of, monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.player.waveform.MAX_DECODED_BYTES", 10)
    with pytest.raises(NoWaveformError, match="limited to 10"):
        compute_waveform(audio_of(b"ID3" + b"\x00" * 100))


def test_too_many_channels_are_an_error(audio_of):
    data = bytearray(wav(0.5))
    data[22:24] = (1024).to_bytes(2, "little")
    with pytest.raises(NoWaveformError, match="channels"):
        compute_waveform(audio_of(bytes(data)))


def encoded(file_format, rate=16000, seconds=1.0, channels=1, amplitude=0.5, **options):
    """A tone of constant loudness."""
    tone = amplitude * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.column_stack([tone] * channels), rate, format=file_format, **options)
    return buffer.getvalue()


def assert_constant(bars, level=0.5):
    assert len(bars) == BARS
    inner = bars[len(bars) // 10 : -len(bars) // 10]  # at its edges, a lossy encoder lets a tone swell
    assert inner == pytest.approx([level] * len(inner), abs=0.2)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("seconds", [0.2, 5])
@pytest.mark.parametrize("rate", [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000])
def test_mp3_of_every_rate_and_length_gives_all_bars(rate, seconds, channels, capfd):
    assert_constant(decoder.decode(encoded("MP3", rate, seconds, channels)))
    assert capfd.readouterr().err == ""


def test_mp3_gives_all_bars(audio_of, capfd):
    assert_constant(compute_waveform(audio_of(encoded("MP3", 22050, 5))))
    assert capfd.readouterr().err == ""


def without_frame_of_information(data):
    first = decoder._get_frame_length(data, 0)
    assert b"Info" in data[:first] or b"Xing" in data[:first]
    return data[first:]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_mp3_without_info_frame_gives_all_bars(rate, channels):
    """The bitrate of its first frame is not that of the others."""
    data = without_frame_of_information(encoded("MP3", rate, 20, channels))
    with_count = decoder.add_frame_count(data)
    assert len(with_count) > len(data)
    with soundfile.SoundFile(io.BytesIO(with_count)) as sound:
        assert rate * 20 <= sound.frames < rate * 21
    assert_constant(decoder.decode(data))


@pytest.mark.parametrize("rate", [8000, 24000, 44100])
def test_joined_mp3s_give_all_bars(rate):
    loud, silent = encoded("MP3", rate, 5), encoded("MP3", rate, 5, amplitude=0)
    bars = decoder.decode(loud + silent + loud)
    assert max(bars[90:150]) < 0.05
    assert min(max(bars[10:70]), max(bars[170:230])) > 0.4


@pytest.mark.parametrize("tail", [b"", b"TAG" + bytes(125)])
def test_mp3_with_a_frame_count_is_unchanged(tail):
    data = encoded("MP3", 22050, 5) + tail
    assert decoder.add_frame_count(data) is data


@pytest.mark.parametrize(
    "data", [b"", b"ID3", b"ID3" + bytes(10), b"OggS", b"\xff\xfb", b"\xff\xfb\x90\x00" + b"x" * 9000]
)
def test_data_that_is_not_a_whole_mp3_is_unchanged(data):
    assert decoder.add_frame_count(data) is data


def test_each_bar_of_an_mp3_is_the_peak_of_its_part():
    rate = 16000
    quiet = np.zeros(rate * 60, "float32")
    quiet[rate * 30 - 200 : rate * 30] = 0.9  # the end of a bar's part of a quarter of a second
    buffer = io.BytesIO()
    soundfile.write(buffer, quiet, rate, format="MP3")
    bars = decoder.decode(buffer.getvalue())
    assert bars.index(max(bars)) in {BARS // 2 - 1, BARS // 2}
    assert max(bars) > 0.3


def silent_mp3_frames(second_byte, third_byte, length, side_information, frames=300):
    """Mono frames with a CRC."""
    head = bytes([0xFF, second_byte, third_byte, 0xC0])
    crc = 0xFFFF
    for byte in head[2:] + bytes(side_information):
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x8005 if crc & 0x8000 else crc << 1) & 0xFFFF
    return (head + crc.to_bytes(2, "big") + bytes(length - len(head) - 2)) * frames


@pytest.mark.parametrize(
    "frames",
    [
        silent_mp3_frames(0xFA, 0x94, 384, 17),  # MPEG-1, 128 kbit/s at 48 kHz
        silent_mp3_frames(0xF2, 0x84, 192, 9),  # MPEG-2, 64 kbit/s at 24 kHz
        silent_mp3_frames(0xE2, 0x48, 288, 9),  # MPEG-2.5, 32 kbit/s at 8 kHz
    ],
)
def test_mp3_with_a_crc_gives_bars(audio_of, frames, capfd):
    assert compute_waveform(audio_of(frames)) == (0.0,) * BARS
    assert capfd.readouterr().err == ""


def test_mp3_after_a_tag_gives_bars(audio_of):
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 0x10, 0]) + bytes(0x10 << 7)
    assert_constant(compute_waveform(audio_of(tag + encoded("MP3", 8000, 5))))


def test_decoder_of_a_damaged_mp3_prints_nothing(audio_of, capfd):
    data = bytearray(encoded("MP3", 22050, 5))
    data[2000:2000] = b"no frame" * 100
    compute_waveform(audio_of(bytes(data[:-50])))
    assert capfd.readouterr().err == ""


def test_mp3_that_cannot_be_decoded_is_an_error(audio_of, capfd):
    with pytest.raises(NoWaveformError, match=r"The audio cannot be decoded: \w+Error$"):
        compute_waveform(audio_of(b"\xff\xf3" + b"nonsense" * 100))
    assert capfd.readouterr().err == ""


def test_slow_decoder_ends_with_an_error(audio_of, monkeypatch, tmp_path):
    (tmp_path / "sleeps.py").write_text("import time; time.sleep(600)")
    monkeypatch.setattr(decoder, "__file__", str(tmp_path / "sleeps.py"))
    monkeypatch.setattr("airflow_provider_mps.player.waveform.TIMEOUT_SECONDS", 0.2)
    with pytest.raises(NoWaveformError, match=r"took longer than 0\.2 seconds"):
        compute_waveform(audio_of(encoded("MP3")))


def test_wait_for_a_free_decoder_ends_in_time(audio_of, monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.player.waveform._DECODERS", threading.BoundedSemaphore(1))
    audio = audio_of(encoded("MP3"))
    with waveform._DECODERS, monkeypatch.context() as patch:
        patch.setattr(waveform, "TIMEOUT_SECONDS", 0.1)
        with pytest.raises(NoWaveformError, match="took longer"):
            compute_waveform(audio)
    assert compute_waveform(audio)


def test_decoder_crash_is_an_error(audio_of, monkeypatch, tmp_path):
    (tmp_path / "aborts.py").write_text("import os; os.abort()")
    monkeypatch.setattr(decoder, "__file__", str(tmp_path / "aborts.py"))
    with pytest.raises(NoWaveformError, match="cannot be decoded"):
        compute_waveform(audio_of(encoded("MP3")))


def test_ogg_gives_all_bars(audio_of):
    assert_constant(compute_waveform(audio_of(encoded("OGG"))))


def with_lengths(data, of_file, of_samples):
    """A WAV file with other lengths in its header."""
    position = data.index(b"data") + 4
    return (
        data[:4] + struct.pack("<I", of_file) + data[8:position] + struct.pack("<I", of_samples) + data[position + 4 :]
    )


@pytest.mark.parametrize("of_file", [0, 36, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("of_samples", [0, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("file_format", ["WAV", "WAVEX"])
def test_streamed_wav_gives_all_bars(audio_of, file_format, of_file, of_samples):
    assert_constant(compute_waveform(audio_of(with_lengths(encoded(file_format), of_file, of_samples))))


def test_streamed_wav_with_other_chunks_gives_all_bars(audio_of):
    data = encoded("WAV")
    position = data.index(b"data")
    chunk = b"LIST" + struct.pack("<I", 13) + b"INFOISFT\x01\0\0\0x\0"
    assert_constant(compute_waveform(audio_of(with_lengths(data[:position] + chunk + data[position:], 0, 0))))


@pytest.mark.parametrize("streamed", [False, True])
def test_rf64_gives_all_bars(audio_of, streamed):
    data = encoded("RF64")
    assert data[12:16] == b"ds64"
    assert_constant(compute_waveform(audio_of(data[:20] + bytes(24) + data[44:] if streamed else data)))


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "ULAW", "ALAW"])
@pytest.mark.parametrize("file_format", ["WAV", "WAVEX"])
def test_wav_of_every_sample_format_gives_bars(audio_of, file_format, subtype):
    assert_constant(compute_waveform(audio_of(encoded(file_format, subtype=subtype))))


@pytest.mark.parametrize("length", [12, 20, 40, 44])
def test_wav_without_samples_has_no_bars(audio_of, length):
    try:
        assert compute_waveform(audio_of(with_lengths(encoded("WAV"), 0, 0)[:length])) == ()
    except NoWaveformError:
        assert length < 44
