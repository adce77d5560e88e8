"""Compare the emulator and the hook with the SDK's typed client."""

import json

import pytest
from tencentcloud.common.credential import Credential
from tencentcloud.common.exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.mps.v20190612 import models
from tencentcloud.mps.v20190612.mps_client import MpsClient

from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.speech.task import TaskStatus


@pytest.fixture(params=["POST"])
def client(emulator, request):
    http = HttpProfile(protocol="http", endpoint=f"127.0.0.1:{emulator.port}", reqMethod=request.param)
    profile = ClientProfile(httpProfile=http, language="en-US")
    return MpsClient(Credential("emulator-id", "emulator-key"), "ap-singapore", profile)


def make_request(model, **fields):
    request = model()
    request.from_json_string(json.dumps(fields))
    return request


def submit(client, **fields):
    return client.TextToSpeechAsync(make_request(models.TextToSpeechAsyncRequest, **fields))


def describe(client, task_id):
    return client.DescribeTextToSpeechAsyncTask(
        make_request(models.DescribeTextToSpeechAsyncTaskRequest, TaskId=task_id)
    )


def test_typed_client_submit_is_accepted(client):
    ext_param = json.dumps({"synExt": {"sampleRate": 22050, "pitch": -3}})
    response = submit(client, Text="Hello", VoiceId="voice-1", TextLang="en", ExtParam=ext_param)
    assert response.ErrorCode == 0
    assert MpsHook().describe_text_to_speech_task(response.TaskId).status is TaskStatus.SUCCESS


@pytest.mark.parametrize("text", ["Hello", "[fail] Hello"])
def test_typed_client_and_hook_read_same_task(client, text):
    task_id = MpsHook().submit_text_to_speech(text, "voice-1")
    typed, task = describe(client, task_id), MpsHook().describe_text_to_speech_task(task_id)
    assert (typed.Status, typed.ErrorCode, typed.Msg) == (task.status, task.error_code, task.message)
    assert (typed.VoiceId or None) == task.voice_id
    assert json.loads(typed.ExtInfo or "{}") == task.ext_info
    # Each response signs its own URL of the same audio.
    assert (typed.AudioUrl or "").partition("?")[0] == (task.audio_url or "").partition("?")[0]


def test_typed_client_and_hook_read_same_processing_task(start_emulator):
    emulator = start_emulator(synthesis_time=60)
    http = HttpProfile(protocol="http", endpoint=f"127.0.0.1:{emulator.port}")
    client = MpsClient(Credential("emulator-id", "emulator-key"), "", ClientProfile(httpProfile=http))
    task_id = submit(client, Text="Hello", VoiceId="v").TaskId
    typed, task = describe(client, task_id), MpsHook().describe_text_to_speech_task(task_id)
    assert (typed.Status, typed.ErrorCode) == (task.status, task.error_code) == ("processing", 100)


def test_typed_request_has_same_parameters():
    fields = set(vars(models.TextToSpeechAsyncRequest()))
    assert {field.removeprefix("_") for field in fields} == {"Text", "VoiceId", "TextLang", "ExtParam"}


def test_typed_client_raises_own_exception(client):
    with pytest.raises(TencentCloudSDKException) as caught:
        describe(client, "no-such-task")
    assert caught.value.get_code() == "ResourceNotFound"
    assert caught.value.get_request_id()
