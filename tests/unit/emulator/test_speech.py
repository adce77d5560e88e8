import io
import shutil
import wave

import pytest

from airflow_provider_mps.emulator.speech import SAMPLE_RATES, Style, seconds, speak, write_tone
from tests.programs import require_program


@pytest.fixture(params=["tone", "espeak-ng"])
def voice(request):
    if request.param == "espeak-ng":
        require_program("espeak-ng")
    return request.param


def test_speech_is_a_16_khz_mono_16_bit_wav(voice):
    with wave.open(io.BytesIO(speak("Hello", voice=voice))) as audio:
        assert (audio.getframerate(), audio.getnchannels(), audio.getsampwidth()) == (16000, 1, 2)


def test_a_longer_text_takes_longer_to_speak(voice):
    assert seconds(speak("Hello " * 20, voice=voice)) > 3 * seconds(speak("Hello", voice=voice))


@pytest.mark.parametrize("rate", SAMPLE_RATES)
def test_the_sample_rate_is_the_one_asked_for(voice, rate):
    with wave.open(io.BytesIO(speak("Hello", style=Style(sample_rate=rate), voice=voice))) as audio:
        assert audio.getframerate() == rate


@pytest.mark.parametrize("duration", [0.1, 5.0])
def test_a_duration_that_is_asked_for_is_kept(voice, duration):
    assert seconds(speak("Hello", style=Style(duration=duration), voice=voice)) == duration


@pytest.mark.parametrize("language", ["en", "xx-nonsense", "日本語", "-w"])
def test_a_language_that_the_speaker_does_not_know_is_no_obstacle(voice, language):
    assert seconds(speak("Hello", language, voice=voice)) > 0


@pytest.mark.parametrize("text", ["...", "\x00", "日本語", "--help", "\ud800"])
def test_any_text_makes_a_sound(voice, text):
    assert seconds(speak(text, voice=voice)) > 0


def test_asking_for_a_speaker_that_is_not_installed_is_an_error(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(FileNotFoundError, match="espeak-ng"):
        speak("Hello", voice="espeak-ng")
    assert seconds(speak("Hello", voice="auto")) > 0


def test_the_longest_text_is_not_more_than_an_hour_of_tone():
    assert seconds(speak("x" * 10_000_000, style=Style(8000), voice="tone")) == 3600


@pytest.mark.parametrize("duration", [0.1, 1.0, 2.5])
def test_a_tone_that_is_written_second_by_second_is_the_one_that_is_spoken(tmp_path, duration):
    file = tmp_path / "tone.wav"
    style = Style(8000, pitch=3)
    write_tone(file, duration, style)
    with wave.open(str(file)) as written, wave.open(io.BytesIO(speak("x" * 99, style=style, voice="tone"))) as spoken:
        frames = written.getnframes()
        assert written.getparams()[:3] == spoken.getparams()[:3]
        assert written.readframes(frames) == spoken.readframes(frames)
    assert seconds(file) == duration
