import asyncio
import json
import threading
import tracemalloc

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, ObjectStoragePath

from airflow_provider_mps.api import voice_actions
from airflow_provider_mps.emulator.speech import Style, speak
from airflow_provider_mps.error_codes import ErrorClass
from airflow_provider_mps.exceptions import InvalidRequestError, MpsApiError, MpsPermanentError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.hooks.voices import make_clone_request
from airflow_provider_mps.speech.audio_sample import MAX_SAMPLE_BYTES
from airflow_provider_mps.speech.task import TaskStatus
from tests.answers import GATEWAY, NO_RESPONSE, NOT_JSON
from tests.scripted_server import HANG, RESET, ScriptedServer, make_api_error, make_json_reply
from tests.tracebacks import printed

pytestmark = pytest.mark.usefixtures("no_waiting")

WAV = speak("A sample", style=Style(), voice="tone")
MADE = make_json_reply({"Response": {"ErrorCode": 0, "VoiceId": "v-1", "TaskId": "t-1", "RequestId": "r"}})
SIGNED_URL = "https://clips.cos.example/sample.wav?q-signature=SECRET"


class SyncVoices:
    def __getattr__(self, name):
        return getattr(MpsHook(), name)


class AsyncVoices:
    """Calls the awaited twin of each method."""

    def __getattr__(self, name):
        async def call(*arguments, **fields):
            hook = MpsHook()
            try:
                return await getattr(hook, f"a{name}")(*arguments, **fields)
            finally:
                await hook.aclose()

        return lambda *arguments, **fields: asyncio.run(call(*arguments, **fields))


@pytest.fixture(params=[SyncVoices, AsyncVoices])
def voices(request):
    """The hook's methods about voices, or their awaited twins."""
    return request.param()


@pytest.fixture
def logged(caplog, capfd):
    """Return what was logged at any level, by Airflow's logging or Python's."""
    caplog.set_level("DEBUG")

    def read():
        printed_lines = capfd.readouterr()
        return printed_lines.out + printed_lines.err + caplog.text

    return read


CALLS = {
    "list": lambda voices: voices.list_voices(),
    "get": lambda voices: voices.get_voice("v-1"),
    "find": lambda voices: voices.find_voice("Amy"),
    "clone": lambda voices: voices.clone_voice(WAV, "Me"),
    "design": lambda voices: voices.submit_voice_design("deep", "Me"),
    "describe design": lambda voices: voices.describe_voice_design("t-1"),
    "update": lambda voices: voices.update_voice("v-1", name="You"),
    "delete": lambda voices: voices.delete_voice("v-1"),
}
SUBMITS = ["clone", "design"]
QUERIES = ["list", "get", "find", "describe design", "update", "delete"]
DONE = make_json_reply(
    {
        "Response": {
            "ErrorCode": 0,
            "RequestId": "r",
            "VoiceId": "v-1",
            "TaskId": "t-1",
            "Status": "success",
            "TotalCount": 1,
            "Voices": [{"VoiceId": "v-1", "Name": "Amy"}],
        }
    }
)
UNKNOWN_OUTCOMES = {
    "internal error": make_api_error("InternalError"),
    "not json": NOT_JSON,
    "no response": NO_RESPONSE,
    "502": GATEWAY,
    "reset": RESET,
}


def test_voice_is_cloned_found_changed_and_deleted(emulator, voices):
    voice_id = voices.clone_voice(WAV, "Me", audio_lang="en", gender="male", languages="en,de", trial_text="Hello")
    voice = voices.find_voice(" Me ")
    assert (voice.voice_id, voice.category, voice.languages) == (voice_id, "clone", ("en", "de"))
    assert voices.update_voice(voice_id, name="You", description="tired").name == "You"
    assert voices.get_voice(voice_id).description == "tired"
    assert voices.delete_voice(voice_id) is None
    assert voices.get_voice(voice_id) is None


def test_voice_is_designed(emulator, voices):
    task_id = voices.submit_voice_design("a deep voice", "Deep", age="senior", trial_text="Hello")
    design = voices.describe_voice_design(task_id)
    assert (design.task_id, design.status) == (task_id, TaskStatus.SUCCESS)
    assert voices.list_voices("design", "deep", age="senior")[0].voice_id == design.voice_id


def test_filters_are_sent(emulator, voices):
    assert [voice.name for voice in voices.list_voices("system", labels=["calm"], languages="en")] == ["Amy"]
    assert [voice.name for voice in voices.list_voices(gender="female", name="CLA")] == ["Clara"]


@pytest.mark.parametrize("count", [1, 100, 101, 250])
def test_list_reads_all_pages(connect, voices, count):
    items = [{"VoiceId": f"v-{number}"} for number in range(count)]

    def page(request):
        asked = json.loads(request.body)
        first = (asked["PageNum"] - 1) * asked["PageSize"]
        found = items[first : first + asked["PageSize"]]
        return make_json_reply({"Response": {"TotalCount": count, "Voices": found, "RequestId": "r"}})

    with ScriptedServer(page) as server:
        connect(server.connection_uri())
        assert [voice.voice_id for voice in voices.list_voices()] == [item["VoiceId"] for item in items]
    assert len(server.requests) == -(-count // 100)


def test_find_logs_name_and_id(emulator, voices, logged):
    voices.find_voice("Amy")
    assert "Voice 'Amy' has the VoiceId emulator-amy" in logged()


def test_find_unknown_name_lists_similar_voices(emulator, voices):
    with pytest.raises(InvalidRequestError, match=r"None of the account's 6 voices.*'amy'.*'Amy' \('emulator-amy'\)"):
        voices.find_voice("amy")


def test_find_ambiguous_name_lists_all_ids(emulator, voices):
    ids = {MpsHook().clone_voice(WAV, "Me") for _ in range(2)}
    with pytest.raises(InvalidRequestError, match="2 voices are named 'Me'") as caught:
        voices.find_voice("Me")
    assert all(voice_id in str(caught.value) for voice_id in ids)
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("fault", UNKNOWN_OUTCOMES)
@pytest.mark.parametrize("call", SUBMITS)
def test_clone_and_design_with_unknown_outcome_are_sent_once(connect, voices, call, fault):
    with ScriptedServer(UNKNOWN_OUTCOMES[fault], DONE) as server:
        connect(server.connection_uri())
        with pytest.raises(MpsApiError, match="the voice 'Me'") as caught:
            CALLS[call](voices)
    assert caught.value.error_class is ErrorClass.OUTCOME_UNKNOWN
    assert len(server.requests) == 1


@pytest.mark.parametrize("call", SUBMITS)
def test_throttled_clone_and_design_are_retried(connect, voices, call):
    with ScriptedServer(make_api_error("RequestLimitExceeded"), DONE) as server:
        connect(server.connection_uri())
        assert CALLS[call](voices) in {"v-1", "t-1"}
    assert len(server.requests) == 2


@pytest.mark.parametrize("fault", ["throttled", *UNKNOWN_OUTCOMES])
@pytest.mark.parametrize("call", QUERIES)
def test_other_calls_after_transient_error_are_retried(connect, voices, call, fault):
    throttled = make_api_error("RequestLimitExceeded")
    with ScriptedServer(UNKNOWN_OUTCOMES.get(fault, throttled), DONE) as server:
        connect(server.connection_uri())
        CALLS[call](voices)
    assert len(server.requests) == 2


@pytest.mark.parametrize("call", CALLS)
def test_permanent_error_names_call_and_is_not_retried(connect, voices, call):
    with ScriptedServer(make_api_error("LimitExceeded.Voices", "The account has 100 voices")) as server:
        connect(server.connection_uri())
        with pytest.raises(MpsPermanentError, match=r"'mps_default'.*The account has 100 voices.*delete unused voices"):
            CALLS[call](voices)
    assert len(server.requests) == 1


def test_full_account_rejects_clone_and_design(start_emulator, voices):
    start_emulator(rate_limit=1000)
    hook = MpsHook()
    for _ in range(100):
        hook.clone_voice("https://example.com/a.wav", "Me")
    for call in SUBMITS:
        with pytest.raises(MpsPermanentError, match="LimitExceeded: The account has 100 cloned and designed voices"):
            CALLS[call](voices)


INVALID = {
    "name": (lambda voices: voices.clone_voice(WAV, ""), "the name of the voice is empty"),
    "audio": (lambda voices: voices.clone_voice(b"hello", "Me"), "has no known audio format"),
    "empty audio": (lambda voices: voices.clone_voice(" ", "Me"), "audio is empty: no voice was created"),
    "no audio": (lambda voices: voices.clone_voice(None, "Me"), "must be bytes, an ObjectStoragePath or an http"),
    "gender": (lambda voices: voices.clone_voice(WAV, "Me", gender="x"), "gender must be one of"),
    "trial text": (lambda voices: voices.clone_voice(WAV, "Me", trial_text="x" * 501), "more than 500"),
    "prompt": (lambda voices: voices.submit_voice_design(" ", "Me"), "prompt is empty"),
    "design text": (lambda voices: voices.submit_voice_design("deep", "Me", trial_text="x" * 501), "more than 500"),
    "task": (lambda voices: voices.describe_voice_design("None"), "mps_task_id is 'None'"),
    "type": (lambda voices: voices.list_voices("mine"), "voice_type must be one of"),
    "find": (lambda voices: voices.find_voice(None), "the name of the voice is empty"),
    "get": (lambda voices: voices.get_voice(""), "voice_id is empty"),
    "update": (lambda voices: voices.update_voice("v-1"), "Nothing to change"),
    "delete": (lambda voices: voices.delete_voice(None), "voice_id is empty"),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_argument_sends_nothing(connect, voices, name):
    call, message = INVALID[name]
    with ScriptedServer(DONE) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError, match=message):
            call(voices)
    assert server.requests == []


def test_invalid_name_is_found_before_sample_is_read(voices, tmp_path):
    with pytest.raises(InvalidRequestError, match="the name of the voice is empty"):
        voices.clone_voice(f"file://{tmp_path}/missing.wav", "")


@pytest.fixture
def sample_file(tmp_path):
    file = tmp_path / "sample.wav"
    file.write_bytes(WAV)
    return file


@pytest.mark.parametrize(
    "make_audio",
    [
        lambda _: WAV,
        lambda _: bytearray(WAV),
        str,
        lambda file: f"file://{file}",
        lambda file: ObjectStoragePath(f"file://{file}"),
        lambda file: file,
    ],
    ids=["bytes", "bytearray", "path", "file URL", "ObjectStoragePath", "pathlib"],
)
def test_sample_is_read(sample_file, make_audio):
    assert make_clone_request(make_audio(sample_file), "Me", None, None).sample.data == WAV


def test_sample_at_url_is_not_read():
    sample = make_clone_request(f" {SIGNED_URL} ", "Me", None, None).sample
    assert (sample.data, sample.url) == (None, SIGNED_URL)


def test_missing_sample_raises_without_retry(tmp_path):
    with pytest.raises(InvalidRequestError, match=r"audio file://.*missing\.wav cannot be read"):
        make_clone_request(f"file://{tmp_path}/missing.wav", "Me", None, None)


def test_unreadable_sample_can_be_retried(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(AirflowException, match="could not be read this time") as caught:
        make_clone_request(f"file://{tmp_path}/loop", "Me", None, None)
    assert not isinstance(caught.value, AirflowFailException)


def test_too_large_sample_is_read_only_to_the_limit(tmp_path):
    file = tmp_path / "sample.wav"
    with file.open("wb") as large:
        large.write(WAV)
        large.truncate(2**30)
    ObjectStoragePath(f"file://{file}").exists()  # what it imports is not measured
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequestError, match=rf"sample\.wav has more than {MAX_SAMPLE_BYTES} bytes"):
            make_clone_request(f"file://{file}", "Me", None, None)
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_SAMPLE_BYTES
    finally:
        tracemalloc.stop()


def test_largest_sample_arrives_complete(emulator, voices, tmp_path):
    (tmp_path / "sample.wav").write_bytes(WAV + bytes(MAX_SAMPLE_BYTES - len(WAV)))
    assert voices.clone_voice(f"file://{tmp_path}/sample.wav", "Me")


def test_clone_waits_longer_than_the_connections_timeout(connect, voices):
    may_respond = threading.Event()

    def respond_after_timeout(request):
        if request.headers["x-tc-action"] == "CloneVoice":
            assert may_respond.wait(60)
            return MADE
        return HANG

    with ScriptedServer(respond_after_timeout) as server:
        connect(server.connection_uri("timeout=0.3"))
        threading.Timer(0.9, may_respond.set).start()
        assert voices.clone_voice(WAV, "Me") == "v-1"
        with pytest.raises(MpsApiError):  # the longer timeout is the clone's only
            voices.submit_voice_design("deep", "Me")


def test_clone_without_response_ends_after_its_timeout(connect, voices, monkeypatch):
    monkeypatch.setattr(voice_actions, "CLONE_TIMEOUT_SECONDS", 0.6)
    with ScriptedServer(HANG) as server:
        connect(server.connection_uri("timeout=0.3"))
        with pytest.raises(MpsApiError) as caught:
            voices.clone_voice(WAV, "Me")
    assert caught.value.error_class is ErrorClass.OUTCOME_UNKNOWN
    assert len(server.requests) == 1


def test_error_of_clone_by_url_hides_the_signature(connect, voices):
    with ScriptedServer(make_api_error("InvalidParameterValue", f"cannot read {SIGNED_URL}")) as server:
        connect(server.connection_uri())
        with pytest.raises(MpsPermanentError) as caught:
            voices.clone_voice(SIGNED_URL, "Me")
    assert json.loads(server.requests[0].body)["AudioUrl"] == SIGNED_URL
    assert "SECRET" not in printed(caught.value)


@pytest.mark.parametrize(
    "audio",
    [
        "http:///sample.wav?q-signature=SECRET",
        "nowhere://user:SECRET@bucket/sample.wav",
        "sample.wav?q-signature=SECRET",
        "/nowhere/sample.wav?q-signature=SECRET",
        {"AudioUrl": SIGNED_URL},
        [SIGNED_URL],
        f"{{'AudioUrl': '{SIGNED_URL}'}}",
    ],
)
def test_error_of_invalid_audio_hides_secrets(audio):
    with pytest.raises(InvalidRequestError) as caught:
        make_clone_request(audio, "Me", None, None)
    assert "SECRET" not in printed(caught.value)


def test_log_of_clone_hides_sample_and_texts(emulator, voices, logged):
    voices.clone_voice(SIGNED_URL, "Me", trial_text="a SECRET text")
    log = logged()
    assert "MPS made voice v1_" in log
    assert "SECRET" not in log
