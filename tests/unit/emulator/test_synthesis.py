import base64
import io
import json

import pytest
import requests
import soundfile

from airflow_provider_mps.emulator.synthesis import SYNTHESIS_SAMPLE_RATES
from airflow_provider_mps.exceptions import MpsPermanentError
from airflow_provider_mps.hooks.mps import MpsHook


def call(**parameters):
    return MpsHook().get_conn().call_json("TextToSpeech", {"Text": "Hello", "VoiceId": "v1", **parameters})["Response"]


def read(response):
    return soundfile.info(io.BytesIO(base64.b64decode(response["AudioData"])))


def test_output_is_data_by_default(emulator):
    response = call()
    assert (response["ErrorCode"], response["AudioUrl"]) == (0, "")
    info = read(response)
    assert (info.format, info.samplerate) == ("WAV", 16000)
    assert json.loads(response["ExtInfo"])["duration"] == pytest.approx(info.duration)


@pytest.mark.parametrize("audio_format", ["wav", "mp3"])
@pytest.mark.parametrize("sample_rate", SYNTHESIS_SAMPLE_RATES)
def test_each_format_has_each_sample_rate(emulator, audio_format, sample_rate):
    options = {"synExt": {"format": audio_format, "sampleRate": sample_rate}}
    info = read(call(ExtParam=json.dumps(options)))
    assert (info.format.lower(), info.samplerate) == (audio_format, sample_rate)


def test_mp3_has_requested_duration(emulator):
    info = read(call(ExtParam='{"synExt": {"format": "mp3", "duration": 2.5}}'))
    assert info.duration == pytest.approx(2.5, abs=0.1)


@pytest.mark.parametrize(("audio_format", "content_type"), [("wav", "audio/wav"), ("mp3", "audio/mpeg")])
def test_url_serves_audio_with_its_type_and_crc(emulator, audio_format, content_type):
    response = call(Output={"Type": "url"}, ExtParam=json.dumps({"synExt": {"format": audio_format}}))
    assert response["AudioData"] == ""
    audio = requests.get(response["AudioUrl"], timeout=10)
    assert audio.headers["Content-Type"] == content_type
    assert audio.headers["x-cos-hash-crc64ecma"].isdigit()
    assert soundfile.info(io.BytesIO(audio.content)).format.lower() == audio_format
    assert audio.url.partition("?")[0].endswith(f".{audio_format}")


def test_failing_text_has_error_code_and_no_audio(emulator):
    response = call(Text="[fail] no")
    assert (response["ErrorCode"], response["AudioUrl"], response["AudioData"]) == (110, "", "")


@pytest.mark.parametrize(
    "parameters",
    [
        {"Output": {"Type": "file"}},
        {"Output": {"Kind": "url"}},
        {"ExtParam": '{"synExt": {"format": "ogg"}}'},
        {"ExtParam": '{"synExt": {"format": ["wav"]}}'},
        {"ExtParam": '{"synExt": {"sampleRate": 48000}}'},
        {"ExtParam": '{"synExt": {"pitch": 1}}'},
        {"ExtParam": "[]"},
        {"ExtParam": "{"},
    ],
    ids=repr,
)
def test_wrong_value_is_rejected(emulator, parameters):
    hook = MpsHook()
    with pytest.raises(MpsPermanentError, match="InvalidParameterValue"):
        hook.get_conn().call_action("TextToSpeech", {"Text": "Hello", "VoiceId": "v1", **parameters})


def test_deleted_voice_is_rejected(emulator):
    hook = MpsHook()
    voice_id = hook.clone_voice(b"RIFF" + bytes(4) + b"WAVE" + bytes(100), "Ann")
    hook.delete_voice(voice_id)
    with pytest.raises(MpsPermanentError):
        hook.synthesize_speech("Hello", voice_id)
