import asyncio
import base64
import json

import pytest

from airflow_provider_mps.api import actions
from airflow_provider_mps.emulator.speech import Style, speak
from airflow_provider_mps.error_codes import ErrorClass
from airflow_provider_mps.exceptions import InvalidRequestError, MpsApiError, MpsPermanentError
from airflow_provider_mps.hooks.mps import MpsHook
from tests.scripted_server import HANG, RESET, Reply, ScriptedServer, make_api_error, make_json_reply

pytestmark = pytest.mark.usefixtures("no_waiting")

WAV = speak("Hello", style=Style(), voice="tone")
URL = "https://clips.cos.example/a.wav?q-signature=SECRET"
SPOKEN = make_json_reply(
    {"Response": {"ErrorCode": 0, "AudioUrl": URL, "ExtInfo": '{"duration": 1.25}', "RequestId": "req-1"}}
)


def synthesize(*arguments, **options):
    return MpsHook().synthesize_speech(*arguments, **options)


def asynthesize(*arguments, **options):
    async def call():
        hook = MpsHook()
        try:
            return await hook.asynthesize_speech(*arguments, **options)
        finally:
            await hook.aclose()

    return asyncio.run(call())


@pytest.fixture(params=[synthesize, asynthesize])
def speak_text(request):
    """Call the method of the hook, or its awaited twin."""
    return request.param


@pytest.fixture
def serve(connect):
    servers = []

    def serve(*script, query="timeout=20"):
        server = ScriptedServer(*script).__enter__()
        servers.append(server)
        connect(server.connection_uri(query))
        return server

    yield serve
    for server in servers:
        server.__exit__(None, None, None)


def make_data_reply(data):
    return make_json_reply({"Response": {"ErrorCode": 0, "AudioData": data, "RequestId": "req-1"}})


def test_request_has_only_what_was_given(serve, speak_text):
    server = serve(SPOKEN)
    speak_text("Hello", "v1")
    (request,) = server.requests
    assert request.headers["x-tc-action"] == "TextToSpeech"
    assert json.loads(request.body) == {"Text": "Hello", "VoiceId": "v1", "Output": {"Type": "url"}}


def test_request_has_all_options(serve, speak_text):
    server = serve(make_data_reply(base64.b64encode(WAV).decode()))
    speak_text(
        "Hello",
        "v1",
        "en",
        audio_format="mp3",
        sample_rate="24000",
        target_duration="2.5",
        output_type="data",
    )
    (request,) = server.requests
    sent = json.loads(request.body)
    assert json.loads(sent.pop("ExtParam")) == {"synExt": {"format": "mp3", "sampleRate": 24000, "duration": 2.5}}
    assert sent == {"Text": "Hello", "VoiceId": "v1", "TextLang": "en", "Output": {"Type": "data"}}


def test_speech_has_url_duration_and_request_id(serve, speak_text):
    serve(SPOKEN)
    speech = speak_text("Hello", "v1")
    assert (speech.audio_url, speech.audio_data) == (URL, None)
    assert (speech.duration, speech.request_id) == (1.25, "req-1")
    assert "SECRET" not in repr(speech)


def test_speech_has_data(serve, speak_text):
    serve(make_data_reply(base64.b64encode(WAV).decode()))
    speech = speak_text("Hello", "v1", output_type="data")
    assert (speech.audio_url, speech.audio_data, speech.duration) == (None, WAV, None)


def test_data_of_several_megabytes_is_read_whole(serve, speak_text):
    audio = WAV[:44] + bytes(10_000_000)
    serve(make_data_reply(base64.b64encode(audio).decode()))
    assert speak_text("Hello", "v1", output_type="data").audio_data == audio


def test_response_above_limit_is_unknown(serve, speak_text, monkeypatch):
    monkeypatch.setattr(actions, "MAX_AUDIO_RESPONSE_BYTES", 1000)
    serve(make_data_reply(base64.b64encode(WAV).decode()))
    with pytest.raises(MpsApiError, match="more than 1000 bytes") as raised:
        speak_text("Hello", "v1", output_type="data")
    assert raised.value.error_class is ErrorClass.OUTCOME_UNKNOWN


@pytest.mark.parametrize("fields", [{}, {"AudioUrl": None}, {"AudioData": "###"}, {"AudioData": "AAAA"}], ids=repr)
def test_response_without_audio_is_unknown(serve, speak_text, fields):
    server = serve(make_json_reply({"Response": {"ErrorCode": 0, **fields, "RequestId": "req-9"}}))
    with pytest.raises(MpsApiError, match="req-9") as raised:
        speak_text("Hello", "v1")
    assert raised.value.error_class is ErrorClass.OUTCOME_UNKNOWN
    assert len(server.requests) == 1


def test_error_code_without_audio_is_permanent(serve, speak_text):
    serve(make_json_reply({"Response": {"ErrorCode": 110, "Msg": "bad voice", "RequestId": "req-9"}}))
    with pytest.raises(MpsPermanentError, match=r"RequestRejected: .*bad voice.*req-9"):
        speak_text("Hello", "v1")


def test_throttled_call_is_retried(serve, speak_text):
    server = serve(make_api_error("RequestLimitExceeded"), SPOKEN)
    assert speak_text("Hello", "v1").audio_url == URL
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "fault",
    [RESET, Reply(b"", 502), Reply(b"not JSON"), make_api_error("InternalError")],
    ids=["reset", "502", "not JSON", "internal error"],
)
def test_unknown_outcome_is_not_retried(serve, speak_text, fault):
    server = serve(fault, SPOKEN)
    with pytest.raises(MpsApiError) as raised:
        speak_text("Hello", "v1")
    assert raised.value.error_class is ErrorClass.OUTCOME_UNKNOWN
    assert len(server.requests) == 1


def test_call_may_take_longer_than_timeout_of_connection(serve, speak_text):
    slow = Reply(SPOKEN.body, 200, {"Content-Type": "application/json"}, drip=1.5 / len(SPOKEN.body))
    serve(slow, query="timeout=1")
    assert speak_text("Hello", "v1").audio_url == URL


def test_hanging_call_ends(serve, speak_text, monkeypatch):
    monkeypatch.setattr(actions, "SYNTHESIS_TIMEOUT_SECONDS", 0.5)
    serve(HANG, query="timeout=1")
    with pytest.raises(MpsApiError) as raised:
        speak_text("Hello", "v1")
    assert raised.value.error_class is ErrorClass.OUTCOME_UNKNOWN


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("", "v1"), {}, "text is empty"),
        (("Hello", ""), {}, "voice_id is empty"),
        (("Hello", "v1"), {"audio_format": "flac"}, "audio_format must be one of wav, mp3"),
        (("Hello", "v1"), {"sample_rate": 11025}, "sample_rate must be one of 8000"),
        (("Hello", "v1"), {"target_duration": -1}, "target_duration must be a number of seconds above 0"),
        (("Hello", "v1"), {"output_type": "file"}, "output_type must be one of url, data"),
        (("a\0b", "v1"), {}, "control character"),
    ],
)
def test_invalid_argument_sends_nothing(serve, speak_text, arguments, options, message):
    server = serve(SPOKEN)
    with pytest.raises(InvalidRequestError, match=message):
        speak_text(*arguments, **options)
    assert server.requests == []


def test_error_and_log_hold_no_text_and_no_signature(serve, speak_text, caplog):
    serve(SPOKEN)
    with caplog.at_level("DEBUG"):
        speak_text("my secret text", "v1")
    assert "my secret text" not in caplog.text
    assert "SECRET" not in caplog.text
