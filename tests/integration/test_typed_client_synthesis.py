"""Compare the emulator and the hook's synchronous call with the SDK's typed client."""

import base64
import json

import pytest
import requests
from tencentcloud.common.credential import Credential
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.mps.v20190612 import models
from tencentcloud.mps.v20190612.mps_client import MpsClient

from airflow_provider_mps.emulator.api import ACTIONS
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.speech.synthesis import AudioFormat, OutputType
from tests.scripted_server import ScriptedServer, make_json_reply

OPTIONS = [
    {},
    {"text_lang": "en", "audio_format": "mp3", "sample_rate": 24000, "target_duration": 2.5},
    {"output_type": "data"},
]


@pytest.fixture
def client(emulator):
    http = HttpProfile(protocol="http", endpoint=f"127.0.0.1:{emulator.port}")
    return MpsClient(Credential("emulator-id", "emulator-key"), "", ClientProfile(httpProfile=http, language="en-US"))


def call(client, **parameters):
    request = models.TextToSpeechRequest()
    request.from_json_string(json.dumps({"Text": "Hello", "VoiceId": "v1", **parameters}))
    return client.TextToSpeech(request)


def typed_fields(model):
    return {name.removeprefix("_") for name in vars(model())}


@pytest.mark.parametrize("options", OPTIONS, ids=repr)
def test_typed_request_serializes_to_what_hook_sends(connect, options):
    reply = make_json_reply({"Response": {"ErrorCode": 0, "AudioUrl": "https://a.example/b.wav", "RequestId": "r"}})
    with ScriptedServer(reply) as server:
        connect(server.connection_uri())
        MpsHook().synthesize_speech("Hello", "v1+/=", **options)
    (request,) = server.requests
    assert request.headers["x-tc-action"] == "TextToSpeech"
    sent = json.loads(request.body)
    typed = models.TextToSpeechRequest()
    typed._deserialize(sent)
    assert typed._serialize() == sent


def test_emulator_takes_the_parameters_of_the_typed_request():
    assert typed_fields(models.TextToSpeechRequest) == set(ACTIONS["TextToSpeech"].parameters)
    assert typed_fields(models.SyncDubbingOutputOption) == {"Type"}


def test_choices_are_those_that_typed_models_document():
    formats = models.TextToSpeechRequest.__init__.__doc__
    assert all(f"{choice}" in formats for choice in AudioFormat)
    outputs = models.SyncDubbingOutputOption.__init__.__doc__
    assert all(f"{choice}" in outputs for choice in OutputType)


def test_typed_client_reads_url_and_data_of_emulator(client):
    with_url = call(client, Output={"Type": "url"}, ExtParam='{"synExt": {"format": "mp3"}}')
    with_data = call(client, ExtParam='{"synExt": {"format": "mp3"}}')
    assert (with_url.ErrorCode, with_url.Msg) == (0, "success")
    assert requests.get(with_url.AudioUrl, timeout=10).content == base64.b64decode(with_data.AudioData)


@pytest.mark.parametrize("output_type", OutputType)
def test_response_of_emulator_has_only_typed_fields(client, output_type):
    response = (
        MpsHook()
        .get_conn()
        .call_action("TextToSpeech", {"Text": "Hello", "VoiceId": "v1", "Output": {"Type": output_type.value}})
    )
    assert set(response) - {"RequestId"} <= typed_fields(models.TextToSpeechResponse)


@pytest.mark.parametrize("output_type", OutputType)
def test_hook_reads_same_audio_as_typed_client(client, output_type):
    speech = MpsHook().synthesize_speech("Hello", "v1", output_type=output_type.value)
    data = speech.audio_data or requests.get(speech.audio_url, timeout=10).content
    assert data == base64.b64decode(call(client).AudioData)
    assert speech.duration == json.loads(call(client).ExtInfo)["duration"]
