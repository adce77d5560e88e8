import io
import wave
from array import array

import pytest

from airflow_provider_mps.player.audio_object import AudioObject
from airflow_provider_mps.player.waveform import BARS, NoWaveformError, draw


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
        return AudioObject.find(f"file://{tmp_path}/clip.wav")

    return store


def test_each_bar_is_the_loudest_moment_of_its_part(audio_of):
    bars = draw(audio_of(wav(0.5, 0.0, 1.0, 0.25)))
    assert len(bars) == BARS
    quarter = BARS // 4
    for part, level in enumerate([0.5, 0.0, 1.0, 0.25]):
        assert bars[part * quarter : (part + 1) * quarter] == pytest.approx([level] * quarter, abs=0.001)


def test_of_a_long_part_its_beginning_is_looked_at_and_the_rest_is_not_read(audio_of, monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.player.waveform.FRAMES_EACH", 10)
    quiet, loud = wav(*[0.5] * 60), b"\xff\x7f"
    position = 44 + 2 * 8000 - len(loud)  # the last frame of the first second, which has four bars
    assert draw(audio_of(quiet[:position] + loud + quiet[position + len(loud) :])) == pytest.approx(
        [0.5] * BARS, abs=0.001
    )


def test_an_audio_of_few_frames_has_as_few_bars(audio_of):
    data = wav(0.5)[: 44 + 2 * 5]
    assert 0 < len(draw(audio_of(data))) <= 5


def test_it_is_drawn_once(audio_of, monkeypatch):
    audio = audio_of(wav(0.5))
    first = draw(audio)
    monkeypatch.setattr(AudioObject, "open", None)
    assert draw(audio) is first


def test_what_cannot_be_decoded_is_an_error_that_says_so(audio_of):
    with pytest.raises(NoWaveformError, match="cannot be drawn"):
        draw(audio_of(b"RIFF\x00\x00\x00\x00WAVEnonsense"))


def test_a_store_that_is_too_slow_ends_it(audio_of, monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.player.waveform.TIMEOUT", -1.0)
    with pytest.raises(NoWaveformError, match="took longer"):
        draw(audio_of(wav(0.5)))


def test_of_what_cannot_be_sought_in_a_long_one_is_not_fetched(audio_of, monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.player.waveform.MOST_BYTES", 10)
    with pytest.raises(NoWaveformError, match="up to 10 are drawn"):
        draw(audio_of(b"ID3" + b"\x00" * 100))


def test_more_channels_than_anybody_hears_are_not_drawn(audio_of):
    data = bytearray(wav(0.5))
    data[22:24] = (1024).to_bytes(2, "little")
    with pytest.raises(NoWaveformError, match="channels"):
        draw(audio_of(bytes(data)))
