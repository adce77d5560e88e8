"""Compare the emulator and the hook's voice methods with the SDK's typed client."""

import base64
import json
from dataclasses import fields

import pytest
from tencentcloud.common.credential import Credential
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.mps.v20190612 import models
from tencentcloud.mps.v20190612.mps_client import MpsClient

from airflow_provider_mps.emulator.api import ACTIONS
from airflow_provider_mps.emulator.speech import Style, speak
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.speech.voices import Age, Gender, Voice
from tests.scripted_server import ScriptedServer, make_json_reply

VOICE_ACTIONS = ("DescribeVoices", "CloneVoice", "DesignVoiceAsync", "DescribeDesignTask", "UpdateVoice", "DeleteVoice")
WAV = speak("A sample", style=Style(), voice="tone")
PROFILE = {
    "description": "tired",
    "gender": "female",
    "age": "middle_aged",
    "languages": ["en", "de"],
    "labels": ["calm"],
    "scenes": ["news"],
}
TYPED_PROFILE = {name.title(): value for name, value in PROFILE.items()}


@pytest.fixture
def client(emulator):
    http = HttpProfile(protocol="http", endpoint=f"127.0.0.1:{emulator.port}")
    return MpsClient(Credential("emulator-id", "emulator-key"), "", ClientProfile(httpProfile=http, language="en-US"))


def call(client, action, **parameters):
    request = getattr(models, f"{action}Request")()
    request.from_json_string(json.dumps(parameters))
    return getattr(client, action)(request)


def typed_fields(model):
    return {name.removeprefix("_") for name in vars(model())}


HOOK_CALLS = {
    "list": (
        lambda hook: hook.list_voices("clone", "Me", **{k: v for k, v in PROFILE.items() if k != "description"}),
        "DescribeVoices",
    ),
    "list all": (lambda hook: hook.list_voices(), "DescribeVoices"),
    "get": (lambda hook: hook.get_voice("v1_abc+/="), "DescribeVoices"),
    "clone": (
        lambda hook: hook.clone_voice(WAV, "Me", audio_lang="en", trial_text="Hello", **PROFILE),
        "CloneVoice",
    ),
    "clone by URL": (lambda hook: hook.clone_voice("https://example.com/a.wav?sign=1", "Me"), "CloneVoice"),
    "design": (lambda hook: hook.submit_voice_design("deep", "Me", trial_text="Hello", **PROFILE), "DesignVoiceAsync"),
    "describe design": (lambda hook: hook.describe_voice_design("1-DesignVoiceAsync-2"), "DescribeDesignTask"),
    "update": (lambda hook: hook.update_voice("v1_abc+/=", name="You", **PROFILE), "UpdateVoice"),
    "delete": (lambda hook: hook.delete_voice("v1_abc+/="), "DeleteVoice"),
}
ANY_RESPONSE = make_json_reply(
    {
        "Response": {
            "ErrorCode": 0,
            "Msg": "success",
            "RequestId": "r",
            "VoiceId": "v",
            "TaskId": "t",
            "Status": "success",
            "TotalCount": 0,
            "Voices": [],
            "Voice": {"VoiceId": "v"},
        }
    }
)


@pytest.mark.parametrize("name", HOOK_CALLS)
def test_typed_request_serializes_to_what_hook_sends(connect, name):
    call_hook, action = HOOK_CALLS[name]
    with ScriptedServer(ANY_RESPONSE) as server:
        connect(server.connection_uri())
        call_hook(MpsHook())
    (request,) = server.requests
    assert request.headers["x-tc-action"] == action
    sent = json.loads(request.body)
    typed = getattr(models, f"{action}Request")()
    typed._deserialize(sent)
    assert typed._serialize() == sent


@pytest.mark.parametrize("action", VOICE_ACTIONS)
def test_emulator_takes_the_parameters_of_the_typed_request(action):
    typed = typed_fields(getattr(models, f"{action}Request"))
    assert typed - {"ExtParam"} == set(ACTIONS[action].parameters) - {"ExtParam"}


def test_profile_of_typed_client_has_the_fields_of_voice():
    settable = {each.name.title() for each in fields(Voice)} & typed_fields(models.VoiceProfile)
    assert settable == typed_fields(models.VoiceProfile)
    # The audio of a voice can be replaced, too, which the hook does not do.
    assert typed_fields(models.VoiceUpdateFields) - {"AudioUrl"} == settable


@pytest.mark.parametrize(("field", "choices"), [("Gender", Gender), ("Age", Age)])
def test_choices_are_those_that_typed_profile_documents(field, choices):
    documented = models.VoiceProfile.__init__.__doc__.partition(f":param _{field}:")[2].partition(":type")[0]
    assert all(f"<li>{choice}" in documented for choice in choices)
    assert documented.count("<li>") == len(choices)


def test_typed_clone_is_the_voice_that_hook_finds(client):
    data = base64.b64encode(WAV).decode()
    response = call(client, "CloneVoice", AudioData=data, VoiceProfile={"Name": "Me", **TYPED_PROFILE}, Text="Hello")
    assert (response.ErrorCode, response.Msg, response.AudioUrl) == (0, "success", "")
    assert base64.b64decode(response.AudioData).startswith(b"RIFF")
    voice = MpsHook().find_voice("Me")
    assert (voice.voice_id, voice.category) == (response.VoiceId, "clone")
    assert {name: list(v) if isinstance(v := getattr(voice, name), tuple) else v for name in PROFILE} == PROFILE


def test_typed_client_reads_hooks_clone(client):
    voice_id = MpsHook().clone_voice(WAV, "Me", trial_text="Hello", **PROFILE)
    (voice,) = call(client, "DescribeVoices", VoiceType="clone").Voices
    assert (voice.VoiceId, voice.Name, voice.Category, voice.Description) == (voice_id, "Me", "clone", "tired")
    assert {name: getattr(voice, name) for name in TYPED_PROFILE} == TYPED_PROFILE
    assert voice.AudioUrl.startswith("http://")


def test_typed_client_and_hook_list_same_voices(client):
    response = call(client, "DescribeVoices")
    voices = MpsHook().list_voices()
    assert response.TotalCount == len(response.Voices) == len(voices)
    assert "famale" in {each.Gender for each in response.Voices}
    for typed, voice in zip(response.Voices, voices, strict=True):
        parsed = Voice.from_response(json.loads(typed.to_json_string()))
        assert (parsed.voice_id, parsed.gender, parsed.labels) == (voice.voice_id, voice.gender, voice.labels)
        assert parsed.audio_url.partition("?")[0] == voice.audio_url.partition("?")[0]


@pytest.mark.parametrize("prompt", ["a deep voice", "[fail] a deep voice"])
def test_typed_client_and_hook_read_same_design(client, prompt):
    task_id = MpsHook().submit_voice_design(prompt, "Deep", trial_text="Hello")
    typed, design = call(client, "DescribeDesignTask", TaskId=task_id), MpsHook().describe_voice_design(task_id)
    assert (typed.Status, typed.ErrorCode, typed.Msg) == (design.status, design.error_code, design.message)
    assert (typed.VoiceId or None) == design.voice_id
    assert (typed.AudioUrl or "").partition("?")[0] == (design.audio_url or "").partition("?")[0]
    assert json.loads(typed.ExtInfo or "{}").get("duration") == design.duration


def test_hook_reads_typed_clients_design(client):
    task_id = call(client, "DesignVoiceAsync", Prompt="deep", VoiceProfile={"Name": "Deep"}).TaskId
    design = MpsHook().describe_voice_design(task_id)
    assert MpsHook().find_voice("Deep").voice_id == design.voice_id


def test_typed_client_and_hook_update_and_delete_alike(client):
    voice_id = MpsHook().clone_voice(WAV, "Me")
    typed = call(client, "UpdateVoice", VoiceId=voice_id, VoiceFields={"Name": "You", "Labels": ["low"]}).Voice
    assert (typed.VoiceId, typed.Name, typed.Labels) == (voice_id, "You", ["low"])
    voice = MpsHook().update_voice(voice_id, description="tired")
    assert (voice.voice_id, voice.name, voice.description, voice.labels) == (voice_id, "You", "tired", ("low",))
    assert call(client, "DeleteVoice", VoiceId=voice_id).ErrorCode == 0
    assert MpsHook().get_voice(voice_id) is None
