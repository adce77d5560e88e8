import json
import signal
import time
import wave
from datetime import UTC, datetime, timedelta

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowTaskTimeout,
    Asset,
    AssetAlias,
    ObjectStoragePath,
    TaskDeferred,
)
from airflow.sdk.execution_time.context import OutletEventAccessors
from airflow.sdk.execution_time.timeout import timeout
from fastcrc import crc64

from airflow_provider_mps.durable.record import STATE_KEY, SubmitRecord
from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.emulator.faults import AudioFault
from airflow_provider_mps.exceptions import (
    AudioTransferError,
    AudioTransferStopped,
    DestinationError,
    InvalidRequestError,
    MpsApiError,
    MpsPermanentError,
    TextToSpeechTaskFailed,
)
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator, TextToSpeechToObjectStorageOperator
from airflow_provider_mps.polling.event import event_from_outcome
from airflow_provider_mps.speech.task import TaskStatus
from tests.answers import ACCEPTED
from tests.faulty_emulator import FaultyEmulator
from tests.scripted_server import RESET, Reply, ScriptedServer, make_api_error, make_audio_reply, make_json_reply
from tests.state_store import MemoryStore

pytestmark = pytest.mark.usefixtures("no_waiting")

SAMPLE = b"ID3" + bytes(50)
"""Passes for the beginning of an MP3 file."""


class TaskInstance:
    """Collect the XComs that an operator pushes."""

    def __init__(self):
        self.xcoms = {}

    def xcom_push(self, key, value):
        self.xcoms[key] = value


def submit(**arguments):
    return TextToSpeechOperator(task_id="submit", **{"text": "hello", "voice_id": "v", **arguments}).execute({})


def store_audio(mps_task_id, destination, **arguments):
    operator = TextToSpeechToObjectStorageOperator(
        task_id="store", mps_task_id=mps_task_id, destination=destination, **arguments
    )
    instance = TaskInstance()
    return operator.execute({"ti": instance}), instance.xcoms


def test_submit_returns_task_id(emulator):
    task_id = submit(text_lang="en", ext_param={"synExt": {"sampleRate": 8000}})
    assert MpsHook().describe_text_to_speech_task(task_id).status is TaskStatus.SUCCESS


@pytest.mark.parametrize(
    "arguments", [{"text": ""}, {"text": None}, {"voice_id": " "}, {"ext_param": "{"}, {"ext_param": "[1]"}]
)
def test_submit_invalid_argument_fails_without_call_or_retry(connect, arguments):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError) as caught:
            submit(**arguments)
        assert isinstance(caught.value, AirflowFailException)
        assert server.requests == []


def test_submit_unknown_outcome_is_not_retried(connect):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowFailException, match="unknown whether MPS accepted"):
            submit()
        assert len(server.requests) == 1


def test_submit_rejected_is_retried_by_airflow(connect):
    with ScriptedServer(make_api_error("RequestLimitExceeded")) as server:
        connect(server.connection_uri())
        with pytest.raises(MpsApiError) as caught:
            submit()
        assert not isinstance(caught.value, AirflowFailException)


def test_submit_error_does_not_quote_text(connect):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowFailException) as caught:
            submit(text="SECRETTEXT")
    assert "SECRETTEXT" not in str(caught.value)


def make_context(store=None, max_tries=0):
    instance = TaskInstance()
    instance.max_tries = max_tries
    return {"ti": instance, "task_state_store": store}


def make_operator(**arguments):
    return TextToSpeechOperator(task_id="submit", **{"text": "hello", "voice_id": "v", **arguments})


def test_submit_sends_arguments_as_ext_param(connect):
    with ScriptedServer(ACCEPTED) as server:
        connect(server.connection_uri())
        submit(sample_rate="22050", pitch=2, ext_param={"transExt": {"transRequirement": "short"}}, translate_to="en")
        body = json.loads(server.requests[0].body)
    assert json.loads(body["ExtParam"]) == {
        "synExt": {"sampleRate": 22050, "pitch": 2},
        "transExt": {"transRequirement": "short", "transInfo": {"transDst": "en"}},
    }


@pytest.mark.parametrize(
    "arguments",
    [
        {"sample_rate": 44000},
        {"pitch": 13},
        {"max_characters": 4},
        {"max_characters": "few"},
        {"ext_param": {"transExt": {"dst": "en"}}},
        {"pitch": 1, "ext_param": {"synExt": {"pitch": 1}}},
        {"text": "\ud83d"},
        {"text_path": "file:///chapter.txt"},
        {"text": None, "text_path": "file:///no/such/chapter.txt"},
    ],
)
def test_submit_invalid_content_fails_before_any_call(connect, arguments):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError):
            submit(**arguments)
        assert server.requests == []


def test_submit_reads_text_from_object_storage(connect, tmp_path):
    (tmp_path / "chapter.txt").write_text("Call me Ishmael.")
    with ScriptedServer(ACCEPTED) as server:
        connect(server.connection_uri())
        for path in (f"file://{tmp_path}/chapter.txt", ObjectStoragePath(f"file://{tmp_path}/chapter.txt")):
            submit(text=None, text_path=path)
        assert {json.loads(request.body)["Text"] for request in server.requests} == {"Call me Ishmael."}


def test_submit_voice_name_sends_and_logs_the_id(start_emulator, capsys):
    app = FaultyEmulator(Options(synthesis_time=0))
    start_emulator(app)
    operator = make_operator(voice_id=None, voice_name="{{ name }}")
    operator.render_template_fields({"name": "Amy"})
    task_id = operator.execute(make_context())
    assert MpsHook().describe_text_to_speech_task(task_id).voice_id == "emulator-amy"
    assert app.actions[:2] == ["DescribeVoices", "TextToSpeechAsync"]
    assert "Voice 'Amy' has the VoiceId emulator-amy" in capsys.readouterr().out


def test_submit_unknown_or_ambiguous_voice_name_submits_nothing(start_emulator):
    app = FaultyEmulator(Options(synthesis_time=0))
    start_emulator(app)
    twins = [MpsHook().clone_voice(SAMPLE, "Twin") for _ in range(2)]
    for name, listed in (("amy", ["emulator-amy", "'Amy'"]), ("Twin", twins)):
        with pytest.raises(InvalidRequestError) as caught:
            make_operator(voice_id=None, voice_name=name).execute(make_context())
        assert all(words in str(caught.value) for words in listed)
    assert "TextToSpeechAsync" not in app.actions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"voice_id": "v"}, "voice_id and voice_name are both given"),
        ({"voice_name": ""}, "voice_id is empty and voice_name is not given"),
        ({"voice_name": " "}, "voice_name is empty"),
        ({"text": ""}, "text is empty"),
        ({"pitch": 99}, "pitch must be"),
        ({"max_characters": 1}, "more than max_characters"),
    ],
)
def test_submit_invalid_argument_is_reported_before_the_look_up(connect, arguments, message):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError, match=message):
            make_operator(**{"voice_id": None, "voice_name": "Amy", **arguments}).execute(make_context())
        assert server.requests == []


@pytest.mark.parametrize(("code", "is_retried"), [("InternalError", True), ("UnauthorizedOperation.CamNoAuth", False)])
def test_submit_failed_look_up_submits_nothing(connect, code, is_retried):
    with ScriptedServer(make_api_error(code)) as server:
        connect(server.connection_uri())
        store = MemoryStore()
        with pytest.raises(MpsApiError, match="DescribeVoices") as caught:
            make_operator(voice_id=None, voice_name="Amy").execute(make_context(store))
        assert isinstance(caught.value, AirflowFailException) is not is_retried
        assert {request.headers["x-tc-action"] for request in server.requests} == {"DescribeVoices"}
        assert store.values == {}


def test_second_attempt_reconnects_by_the_id_of_the_voice(start_emulator):
    start_emulator(synthesis_time=60)
    store, hook = MemoryStore(), MpsHook()
    clone = hook.clone_voice(SAMPLE, "Anna")
    first = make_operator(voice_id=None, voice_name="Anna").execute(make_context(store))
    hook.update_voice(clone, name="Anna 2")
    for arguments in ({"voice_id": None, "voice_name": "Anna 2"}, {"voice_id": clone}):
        assert make_operator(**arguments).execute(make_context(store)) == first
    hook.clone_voice(SAMPLE, "Anna")  # another voice with the earlier name
    assert make_operator(voice_id=None, voice_name="Anna").execute(make_context(store)) != first


def test_submit_voice_deleted_after_acceptance_reconnects(start_emulator):
    start_emulator(synthesis_time=0)
    store, hook = MemoryStore(), MpsHook()
    clone = hook.clone_voice(SAMPLE, "Anna")
    first = make_operator(voice_id=None, voice_name="Anna").execute(make_context(store))
    hook.delete_voice(clone)
    assert make_operator(voice_id=None, voice_name="Anna").execute(make_context(store)) == first
    with pytest.raises(InvalidRequestError, match="is named 'Anna'"):
        make_operator(voice_id=None, voice_name="Anna", text="Another text.").execute(make_context(store))


def test_second_attempt_returns_first_task_id(start_emulator):
    start_emulator(synthesis_time=60)
    store = MemoryStore()
    first = make_operator().execute(make_context(store))
    assert make_operator().execute(make_context(store)) == first


def test_durable_false_submits_in_each_attempt(start_emulator):
    start_emulator(synthesis_time=60)
    store = MemoryStore()
    first = make_operator(durable=False).execute(make_context(store))
    assert make_operator(durable=False).execute(make_context(store)) != first
    assert store.values == {}


def test_wait_returns_task_id_after_success(start_emulator):
    start_emulator(synthesis_time=0.5)
    task_id = make_operator(wait_for_completion=True, poll_interval=0.1).execute(make_context())
    assert MpsHook().describe_text_to_speech_task(task_id).status is TaskStatus.SUCCESS


def test_wait_failed_task_fails_without_retry(emulator):
    with pytest.raises(TextToSpeechTaskFailed):
        make_operator(text="[fail]", wait_for_completion=True, poll_interval=0.1).execute(make_context())


def test_clear_resubmits_failed_task(start_emulator):
    start_emulator()
    store = MemoryStore()
    failing = {"text": "[fail]", "wait_for_completion": True, "poll_interval": 0.1}
    failed = []
    for max_tries in (0, 1):
        with pytest.raises(TextToSpeechTaskFailed) as caught:
            make_operator(**failing).execute(make_context(store, max_tries))
        failed.append(caught.value.task_id)
    assert failed[0] != failed[1]


def test_task_id_is_pushed_before_wait(connect):
    with ScriptedServer(ACCEPTED, make_api_error("ResourceNotFound")) as server:
        connect(server.connection_uri())
        context = make_context()
        with pytest.raises(MpsPermanentError):
            make_operator(wait_for_completion=True, poll_interval=0.1).execute(context)
    assert context["ti"].xcoms == {"TaskId": "task-1"}


def test_deferrable_submit_is_recorded_before_it_defers(connect):
    store = MemoryStore()
    with ScriptedServer(ACCEPTED) as server:
        connect(server.connection_uri())
        operator = make_operator(
            wait_for_completion=True,
            deferrable=True,
            poll_interval=30,
            region="ap-singapore",
            execution_timeout=timedelta(minutes=10),
        )
        before = time.time()
        with pytest.raises(TaskDeferred) as deferred:
            operator.execute(make_context(store))
        assert len(server.requests) == 1
    _, arguments = deferred.value.trigger.serialize()
    assert arguments["mps_task_id"] == "task-1" == SubmitRecord.load(store).task_id
    assert (arguments["region"], arguments["poll_interval"]) == ("ap-singapore", 30)
    assert before + 600 <= arguments["deadline"] <= time.time() + 600
    assert deferred.value.method_name == "execute_complete"
    assert deferred.value.kwargs == {"mps_task_id": "task-1"}
    assert deferred.value.timeout > timedelta(minutes=10)


def test_execution_timeout_deferred_counts_from_attempt_start(emulator):
    operator = make_operator(wait_for_completion=True, deferrable=True, execution_timeout=timedelta(minutes=10))
    context = make_context(MemoryStore())
    context["ti"].start_date = datetime.now(UTC) - timedelta(minutes=9)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    deadline = deferred.value.trigger.serialize()[1]["deadline"]
    assert deadline == pytest.approx(context["ti"].start_date.timestamp() + 600)


@pytest.mark.parametrize("reason", ["Trigger timeout", "Trigger failure"])
@pytest.mark.parametrize("store", [None, MemoryStore()])
def test_wait_ended_by_airflow_is_retried_only_with_store(emulator, reason, store):
    context = make_context(store)
    context["ti"].xcom_pull = lambda **_: "task-1"
    context["ti"].map_index = -1
    with pytest.raises(AirflowException) as caught:
        make_operator().resume_execution("__fail__", {"error": reason}, context)
    assert isinstance(caught.value, AirflowFailException) == (store is None)
    assert "task-1" in str(caught.value) or store is not None


@pytest.mark.parametrize("store", [None, MemoryStore()])
def test_execution_timeout_in_worker_is_retried_only_with_store(start_emulator, store):
    start_emulator(synthesis_time=60)
    operator = make_operator(wait_for_completion=True, poll_interval=0.01)
    with pytest.raises(AirflowTaskTimeout if store else AirflowFailException) as caught, timeout(1):
        operator.execute(make_context(store))
    assert ("was still processing at" in str(caught.value)) is (store is not None)


def test_failed_task_is_submitted_once_over_all_retries(emulator):
    store = MemoryStore()
    failed = make_operator(text="[fail]").execute(make_context(store))
    store.set(
        STATE_KEY, {**store.get(STATE_KEY), "has_ended": False}
    )  # as after an attempt that timed out while it waited
    for _ in range(3):
        with pytest.raises(TextToSpeechTaskFailed, match=failed):
            make_operator(text="[fail]", wait_for_completion=True).execute(make_context(store))
        store.set(STATE_KEY, {**store.get(STATE_KEY), "has_ended": False})


def test_deferrable_without_wait_warns():
    with pytest.warns(UserWarning, match="deferrable=True of task 'submit' has no effect without wait_for_completion"):
        make_operator(deferrable=True)


@pytest.mark.parametrize("arguments", [{}, {"deferrable": True, "wait_for_completion": True}, {"deferrable": False}])
def test_deferrable_with_wait_does_not_warn(recwarn, arguments):
    make_operator(**arguments)
    assert not [warning for warning in recwarn if "deferrable" in str(warning.message)]


def test_deferrable_by_default_does_not_warn(recwarn, monkeypatch):
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "true")
    make_operator(deferrable=True)
    assert not [warning for warning in recwarn if "deferrable" in str(warning.message)]


def test_reconnect_finished_task_does_not_defer(emulator):
    store = MemoryStore()
    first = make_operator().execute(make_context(store))
    assert make_operator(wait_for_completion=True, deferrable=True).execute(make_context(store)) == first


TIMEOUT_EVENT = event_from_outcome(
    AirflowSensorTimeout("Task task-1 was still processing at 2026-01-01T00:00:00+00:00")
)
"""What the trigger sends at its deadline."""


def test_execute_complete_returns_task_id(emulator):
    task = MpsHook().describe_text_to_speech_task(make_operator().execute(make_context()))
    assert make_operator().execute_complete(make_context(), event_from_outcome(task)) == task.task_id


def test_execute_complete_raises_failure_and_timeout(emulator):
    task = MpsHook().describe_text_to_speech_task(make_operator(text="[fail]").execute(make_context()))
    with pytest.raises(TextToSpeechTaskFailed):
        make_operator().execute_complete(make_context(), event_from_outcome(task))
    with pytest.raises(
        AirflowException,
        match=r"Task task-1 was still processing at 2026-01-01T00:00:00\+00:00 when execution_timeout ended\.",
    ) as caught:
        make_operator().execute_complete(make_context(MemoryStore()), TIMEOUT_EVENT)
    assert not isinstance(caught.value, AirflowSensorTimeout | AirflowFailException)  # neither of which Airflow retries


def test_execute_complete_timeout_queries_the_task_once_more(emulator, start_emulator):
    done = make_operator().execute(make_context())
    assert make_operator().execute_complete(make_context(), TIMEOUT_EVENT, mps_task_id=done) == done
    failed = make_operator(text="[fail]").execute(make_context())
    with pytest.raises(TextToSpeechTaskFailed):
        make_operator().execute_complete(make_context(), TIMEOUT_EVENT, mps_task_id=failed)


def test_execute_complete_timeout_and_failed_query_reports_timeout(connect, no_waiting):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowFailException, match="Task task-1 was still processing"):
            make_operator().execute_complete(make_context(), TIMEOUT_EVENT, mps_task_id="task-1")


@pytest.mark.parametrize(("store", "durable"), [(None, True), (MemoryStore(), False)])
def test_execute_complete_timeout_without_store_is_not_retried(store, durable):
    with pytest.raises(AirflowFailException, match=r"Task task-1 .* a clear submits again, which is billed again"):
        make_operator(durable=durable).execute_complete(make_context(store), TIMEOUT_EVENT)


def test_on_kill_logs_pending_task(start_emulator, capsys):
    start_emulator(synthesis_time=60)
    operator = make_operator()
    operator.on_kill()  # before anything was sent
    task_id = operator.execute(make_context())
    assert "may be billed" not in capsys.readouterr().out
    operator.on_kill()
    assert f"Task {task_id} continues at MPS and may be billed: MPS has no call to cancel it" in capsys.readouterr().out


def test_on_kill_before_request_sends_nothing(connect, monkeypatch):
    """Airflow 3 calls on_kill in the handler of SIGTERM, and the task goes on."""
    operator = make_operator(text=None, text_path="file:///text.txt")
    monkeypatch.setattr(f"{TextToSpeechOperator.__module__}.read_text", lambda _: operator.on_kill() or "Hello.")
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowException, match="was not submitted"):
            operator.execute(make_context())
        assert server.requests == []


def test_poll_interval_invalid_fails_before_submit(connect):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError, match="not a number of seconds"):
            make_operator(poll_interval=-1).execute(make_context())
        assert server.requests == []


def test_store_returns_path_and_pushes_voice_and_duration(emulator, tmp_path):
    path, xcoms = store_audio(submit(), f"file://{tmp_path}/clip.wav")
    assert path == f"file://{tmp_path}/clip.wav"
    with wave.open(str(tmp_path / "clip.wav")) as audio:
        assert xcoms == {"VoiceId": "v", "duration": audio.getnframes() / audio.getframerate()}


@pytest.mark.parametrize("if_exists", ["overwrite", "skip"])
def test_store_adds_asset_event_to_outlet(emulator, tmp_path, if_exists):
    alias, events = AssetAlias("clips"), OutletEventAccessors()
    operator = TextToSpeechToObjectStorageOperator(
        task_id="store",
        mps_task_id=submit(),
        destination=f"file://{tmp_path}/clip.wav",
        if_exists=if_exists,
        outlets=[alias],
    )
    for _ in range(2):
        operator.execute({"ti": TaskInstance(), "outlet_events": events})
    audio = (tmp_path / "clip.wav").read_bytes()
    first, second = events[alias].asset_alias_events
    assert first.dest_asset_key.uri == f"file://{tmp_path}/clip.wav"
    assert first.extra == {
        "uri": f"file://{tmp_path}/clip.wav",
        "VoiceId": "v",
        "duration": (len(audio) - 44) / 32000,
        "size": len(audio),
        "crc64": str(crc64.xz(audio)),
    }
    assert second.extra == first.extra


def test_store_passes_partition_key_to_event(emulator, tmp_path):
    asset, events = Asset("clips"), OutletEventAccessors()
    operator = TextToSpeechToObjectStorageOperator(
        task_id="store",
        mps_task_id=submit(),
        destination=f"file://{tmp_path}/clip.wav",
        partition_key="2026-11-28",
        outlets=[asset],
    )
    operator.execute({"ti": TaskInstance(), "outlet_events": events})
    assert events[asset].partition_keys == {"2026-11-28"}
    assert events[asset].extra["partition_key"] == "2026-11-28"


def test_store_destination_not_an_asset_fails_before_transfer(emulator, tmp_path):
    deep = "/".join(["a" * 200] * 8)
    with pytest.raises(DestinationError, match="cannot be an asset"):
        store_audio(submit(), f"file://{tmp_path}/{deep}/clip.wav", outlets=[AssetAlias("clips")])
    assert list(tmp_path.iterdir()) == []


def test_lineage_has_no_url_signature(emulator, tmp_path):
    operator = TextToSpeechToObjectStorageOperator(
        task_id="store", mps_task_id=submit(), destination=f"file://{tmp_path}/clip.wav"
    )
    assert operator.get_openlineage_facets_on_complete(None) is None
    operator.execute({"ti": TaskInstance()})
    lineage = operator.get_openlineage_facets_on_complete(None)
    (source,), (destination,) = lineage.inputs, lineage.outputs
    assert source.namespace == emulator.url
    assert source.name.startswith("/async_dubbing/")
    assert "sign=" not in source.name
    assert (destination.namespace, destination.name) == ("file", f"{tmp_path}/clip.wav")


def test_on_kill_cancels_transfer_and_leaves_no_file(start_emulator, tmp_path):
    start_emulator(audio_faults=(AudioFault.parse("stall"),))
    operator = TextToSpeechToObjectStorageOperator(
        task_id="store", mps_task_id=submit(), destination=f"file://{tmp_path}/clip.wav"
    )
    previous = signal.signal(signal.SIGALRM, lambda *_: operator.on_kill())  # as Airflow does on SIGTERM
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(AudioTransferStopped, match=r"clip\.wav was stopped"):
            operator.execute({"ti": TaskInstance()})
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert list(tmp_path.iterdir()) == []


def test_on_kill_after_end_has_no_effect(emulator, tmp_path):
    operator = TextToSpeechToObjectStorageOperator(
        task_id="store", mps_task_id=submit(), destination=f"file://{tmp_path}/clip.wav"
    )
    operator.execute({"ti": TaskInstance()})
    operator.on_kill()


def test_transfer_timeout_aborts_slow_transfer(start_emulator, tmp_path):
    start_emulator(audio_faults=(AudioFault.parse("slow"),))
    with pytest.raises(AudioTransferError, match=r"not stored within 0\.2 seconds"):
        store_audio(submit(text="a longer text " * 50), f"file://{tmp_path}/clip.wav", transfer_timeout=0.2)
    assert list(tmp_path.iterdir()) == []


def test_store_into_folder_uses_name_of_audio(emulator, tmp_path):
    task_id = submit()
    path, _ = store_audio(task_id, f"file://{tmp_path}/new/folder/")
    assert [file.name for file in (tmp_path / "new" / "folder").iterdir()] == [path.rpartition("/")[2]]
    assert path.endswith(f"{task_id.removeprefix('1300000000-DubbingAsync-')}.wav")


def test_store_accepts_object_storage_path(emulator, tmp_path):
    path, _ = store_audio(submit(), ObjectStoragePath(f"file://{tmp_path}/clip.wav"))
    assert (tmp_path / "clip.wav").exists()
    assert path == f"file://{tmp_path}/clip.wav"


def test_if_exists_skip_pushes_same_xcoms(emulator, tmp_path):
    task_id = submit()
    first = store_audio(task_id, f"file://{tmp_path}/clip.wav")
    assert store_audio(task_id, f"file://{tmp_path}/clip.wav", if_exists="skip") == first


def test_if_exists_fail_keeps_existing_file(emulator, tmp_path):
    (tmp_path / "clip.wav").write_bytes(b"old")
    with pytest.raises(DestinationError):
        store_audio(submit(), f"file://{tmp_path}/clip.wav", if_exists="fail")
    assert (tmp_path / "clip.wav").read_bytes() == b"old"


def test_if_exists_invalid_fails_in_constructor():
    with pytest.raises(InvalidRequestError):
        TextToSpeechToObjectStorageOperator(task_id="s", mps_task_id="t", destination="d", if_exists="maybe")


def test_store_processing_task_is_retried_and_names_sensor(start_emulator, tmp_path):
    start_emulator(synthesis_time=60)
    with pytest.raises(AirflowException, match="TextToSpeechTaskSensor") as caught:
        store_audio(submit(), f"file://{tmp_path}/")
    assert not isinstance(caught.value, AirflowFailException)


def test_store_failed_task_is_not_retried(emulator, tmp_path):
    with pytest.raises(TextToSpeechTaskFailed):
        store_audio(submit(text="[fail]"), f"file://{tmp_path}/")


def test_store_success_without_audio_url_names_request_id(connect, tmp_path):
    with ScriptedServer(make_json_reply({"Response": {"Status": "success", "RequestId": "req-3"}})) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowException, match=r"without an AudioUrl.*req-3"):
            store_audio("task-1", f"file://{tmp_path}/")


@pytest.mark.parametrize("destination", ["", None])
def test_store_missing_destination_fails_before_any_call(connect, destination):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError, match="destination"):
            store_audio("task-1", destination)
        assert server.requests == []


def test_store_expired_url_is_refreshed(connect, tmp_path):
    audio = b"RIFF"
    urls = iter(["expired.wav", "fresh.wav"])

    def serve(request):
        if request.method == "POST":
            url = f"{server.url}/{next(urls)}"
            return make_json_reply({"Response": {"Status": "success", "AudioUrl": url, "RequestId": "r"}})
        return make_audio_reply(audio) if request.target == "/fresh.wav" else Reply(b"", 403)

    with ScriptedServer(serve) as server:
        connect(server.connection_uri())
        store_audio("task-1", f"file://{tmp_path}/clip.wav")
    assert (tmp_path / "clip.wav").read_bytes() == audio


def test_template_fields_are_complete():
    assert set(TextToSpeechOperator.template_fields) == {
        "text",
        "text_path",
        "voice_id",
        "voice_name",
        "text_lang",
        "ext_param",
        "sample_rate",
        "pitch",
        "target_duration",
        "translate_to",
        "translate_requirement",
        "max_characters",
        "mps_conn_id",
        "region",
    }
    assert set(TextToSpeechToObjectStorageOperator.template_fields) == {
        "mps_task_id",
        "destination",
        "partition_key",
        "mps_conn_id",
        "region",
    }


def test_repr_has_no_secret(emulator):
    operator = TextToSpeechOperator(task_id="submit", text="hello", voice_id="v")
    assert "emulator-key" not in repr(operator) + json.dumps(vars(MpsHook()), default=repr)
