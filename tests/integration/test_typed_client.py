"""The emulator held to the SDK and not to us: what the SDK's typed client sends and reads."""

import json

import pytest
from tencentcloud.common.credential import Credential
from tencentcloud.common.exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.mps.v20190612 import models
from tencentcloud.mps.v20190612.mps_client import MpsClient

from airflow_provider_mps.hooks.mps import MpsHook


@pytest.fixture(params=["POST"])
def client(emulator, request):
    http = HttpProfile(protocol="http", endpoint=f"127.0.0.1:{emulator.port}", reqMethod=request.param)
    profile = ClientProfile(httpProfile=http, language="en-US")
    return MpsClient(Credential("emulator-id", "emulator-key"), "ap-singapore", profile)


def request_of(model, **fields):
    request = model()
    request.from_json_string(json.dumps(fields))
    return request


def submit(client, **fields):
    return client.TextToSpeechAsync(request_of(models.TextToSpeechAsyncRequest, **fields))


def describe(client, task_id):
    return client.DescribeTextToSpeechAsyncTask(request_of(models.DescribeTextToSpeechAsyncTaskRequest, TaskId=task_id))


def test_a_submit_of_the_typed_client_is_accepted(client):
    ext_param = json.dumps({"synExt": {"sampleRate": 22050, "pitch": -3}})
    answer = submit(client, Text="Hello", VoiceId="voice-1", TextLang="en", ExtParam=ext_param)
    assert answer.ErrorCode == 0
    assert MpsHook().describe_text_to_speech_task(answer.TaskId).is_ready()


@pytest.mark.parametrize("text", ["Hello", "[fail] Hello"])
def test_what_the_typed_client_reads_is_what_the_hook_reads(client, text):
    task_id = MpsHook().submit_text_to_speech(text, "voice-1")
    typed, ours = describe(client, task_id), MpsHook().describe_text_to_speech_task(task_id)
    assert (typed.Status, typed.ErrorCode, typed.Msg) == (ours.status, ours.error_code, ours.message)
    assert (typed.VoiceId or None) == ours.voice_id
    assert json.loads(typed.ExtInfo or "{}") == ours.ext_info
    # Each answer has a link of its own to the same audio.
    assert (typed.AudioUrl or "").partition("?")[0] == (ours.audio_url or "").partition("?")[0]


def test_what_the_typed_client_reads_while_processing_is_what_the_hook_reads(start_emulator):
    emulator = start_emulator(synthesis_time=60)
    http = HttpProfile(protocol="http", endpoint=f"127.0.0.1:{emulator.port}")
    client = MpsClient(Credential("emulator-id", "emulator-key"), "", ClientProfile(httpProfile=http))
    task_id = submit(client, Text="Hello", VoiceId="v").TaskId
    typed, ours = describe(client, task_id), MpsHook().describe_text_to_speech_task(task_id)
    assert (typed.Status, typed.ErrorCode) == (ours.status, ours.error_code) == ("processing", 100)


def test_the_hook_sends_what_the_typed_client_sends():
    fields = set(vars(models.TextToSpeechAsyncRequest()))
    assert {field.removeprefix("_") for field in fields} == {"Text", "VoiceId", "TextLang", "ExtParam"}


def test_a_refusal_reaches_the_typed_client_as_its_own_exception(client):
    with pytest.raises(TencentCloudSDKException) as caught:
        describe(client, "nobodys")
    assert caught.value.get_code() == "ResourceNotFound"
    assert caught.value.get_request_id()
