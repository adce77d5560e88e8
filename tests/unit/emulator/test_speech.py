import io
import shutil
import wave

import pytest

from airflow_provider_mps.emulator.speech import SAMPLE_RATES, Style, measure_seconds, speak, write_tone
from tests.programs import require_program


@pytest.fixture(params=["tone", "espeak-ng"])
def voice(request):
    if request.param == "espeak-ng":
        require_program("espeak-ng")
    return request.param


def test_speech_is_a_16_khz_mono_16_bit_wav(voice):
    with wave.open(io.BytesIO(speak("Hello", voice=voice))) as audio:
        assert (audio.getframerate(), audio.getnchannels(), audio.getsampwidth()) == (16000, 1, 2)


def test_longer_text_gives_longer_audio(voice):
    assert measure_seconds(speak("Hello " * 20, voice=voice)) > 3 * measure_seconds(speak("Hello", voice=voice))


@pytest.mark.parametrize("rate", SAMPLE_RATES)
def test_sample_rate_is_the_requested_one(voice, rate):
    with wave.open(io.BytesIO(speak("Hello", style=Style(sample_rate=rate), voice=voice))) as audio:
        assert audio.getframerate() == rate


@pytest.mark.parametrize("duration", [0.1, 5.0])
def test_duration_is_the_requested_one(voice, duration):
    assert measure_seconds(speak("Hello", style=Style(duration=duration), voice=voice)) == duration


@pytest.mark.parametrize("language", ["en", "xx-nonsense", "日本語", "-w"])
def test_unknown_language_is_ignored(voice, language):
    assert measure_seconds(speak("Hello", language, voice=voice)) > 0


@pytest.mark.parametrize("text", ["...", "\x00", "日本語", "--help", "\ud800"])
def test_any_text_gives_audio(voice, text):
    assert measure_seconds(speak(text, voice=voice)) > 0


def test_missing_espeak_ng_is_an_error_if_requested(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(FileNotFoundError, match="espeak-ng"):
        speak("Hello", voice="espeak-ng")
    assert measure_seconds(speak("Hello", voice="auto")) > 0


def test_longest_text_gives_at_most_an_hour_of_tone():
    assert measure_seconds(speak("x" * 10_000_000, style=Style(8000), voice="tone")) == 3600


@pytest.mark.parametrize("duration", [0.1, 1.0, 2.5])
def test_written_tone_equals_spoken_tone(tmp_path, duration):
    file = tmp_path / "tone.wav"
    style = Style(8000, pitch=3)
    write_tone(file, duration, style)
    with wave.open(str(file)) as written, wave.open(io.BytesIO(speak("x" * 99, style=style, voice="tone"))) as spoken:
        frames = written.getnframes()
        assert written.getparams()[:3] == spoken.getparams()[:3]
        assert written.readframes(frames) == spoken.readframes(frames)
    assert measure_seconds(file) == duration
