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
    AssetAlias,
    ObjectStoragePath,
    TaskDeferred,
)
from airflow.sdk.execution_time.context import OutletEventAccessors
from airflow.sdk.execution_time.timeout import timeout
from fastcrc import crc64

from airflow_provider_mps.emulator.faults import AudioFault
from airflow_provider_mps.errors import (
    AudioTransferError,
    AudioTransferStopped,
    DestinationError,
    InvalidRequestError,
    MpsApiError,
    MpsPermanentError,
    TextToSpeechTaskFailed,
)
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.text_to_speech import (
    TextToSpeechOperator,
    TextToSpeechToObjectStorageOperator,
)
from airflow_provider_mps.submission import KEY, Submission
from airflow_provider_mps.triggers.event import event_of
from tests.answers import ACCEPTED
from tests.scripted_server import RESET, Reply, ScriptedServer, api_error, audio_reply, json_reply
from tests.state_store import MemoryStore

pytestmark = pytest.mark.usefixtures("no_waiting")


class TaskInstance:
    """Takes the XComs that an operator pushes."""

    def __init__(self):
        self.xcoms = {}

    def xcom_push(self, key, value):
        self.xcoms[key] = value


def submit(**arguments):
    return TextToSpeechOperator(task_id="submit", **{"text": "hello", "voice_id": "v", **arguments}).execute({})


def store(mps_task_id, destination, **arguments):
    operator = TextToSpeechToObjectStorageOperator(
        task_id="store", mps_task_id=mps_task_id, destination=destination, **arguments
    )
    instance = TaskInstance()
    return operator.execute({"ti": instance}), instance.xcoms


def test_submitting_returns_the_task_id(emulator):
    task_id = submit(text_lang="en", ext_param={"synExt": {"sampleRate": 8000}})
    assert MpsHook().describe_text_to_speech_task(task_id).is_ready()


@pytest.mark.parametrize(
    "arguments", [{"text": ""}, {"text": None}, {"voice_id": " "}, {"ext_param": "{"}, {"ext_param": "[1]"}]
)
def test_an_argument_that_cannot_be_sent_fails_before_any_call_and_is_not_retried(connect, arguments):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError) as caught:
            submit(**arguments)
        assert isinstance(caught.value, AirflowFailException)
        assert server.requests == []


def test_a_submit_with_an_unknown_outcome_is_not_retried_by_airflow_either(connect):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowFailException, match="unknown whether MPS accepted"):
            submit()
        assert len(server.requests) == 1


def test_a_submit_that_was_provably_refused_is_left_to_airflows_retries(connect):
    with ScriptedServer(api_error("RequestLimitExceeded")) as server:
        connect(server.connection_uri())
        with pytest.raises(MpsApiError) as caught:
            submit()
        assert not isinstance(caught.value, AirflowFailException)


def test_the_text_is_not_in_the_error(connect):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowFailException) as caught:
            submit(text="SECRETTEXT")
    assert "SECRETTEXT" not in str(caught.value)


def context(store=None, max_tries=0):
    instance = TaskInstance()
    instance.max_tries = max_tries
    return {"ti": instance, "task_state_store": store}


def operator(**arguments):
    return TextToSpeechOperator(task_id="submit", **{"text": "hello", "voice_id": "v", **arguments})


def test_plain_arguments_are_sent_as_ext_param(connect):
    with ScriptedServer(ACCEPTED) as server:
        connect(server.connection_uri())
        submit(sample_rate="22050", pitch=2, ext_param={"transExt": {"transRequirement": "short"}}, translate_to="en")
        sent = json.loads(server.requests[0].body)
    assert json.loads(sent["ExtParam"]) == {
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
def test_content_that_should_not_be_paid_is_refused_before_any_call(connect, arguments):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError):
            submit(**arguments)
        assert server.requests == []


def test_a_text_may_lie_in_object_storage(connect, tmp_path):
    (tmp_path / "chapter.txt").write_text("Call me Ishmael.")
    with ScriptedServer(ACCEPTED) as server:
        connect(server.connection_uri())
        for path in (f"file://{tmp_path}/chapter.txt", ObjectStoragePath(f"file://{tmp_path}/chapter.txt")):
            submit(text=None, text_path=path)
        assert {json.loads(request.body)["Text"] for request in server.requests} == {"Call me Ishmael."}


def test_another_try_returns_the_id_of_the_first_and_submits_nothing(start_emulator):
    start_emulator(synthesis_time=60)
    store = MemoryStore()
    first = operator().execute(context(store))
    assert operator().execute(context(store)) == first


def test_durable_false_submits_each_time(start_emulator):
    start_emulator(synthesis_time=60)
    store = MemoryStore()
    first = operator(durable=False).execute(context(store))
    assert operator(durable=False).execute(context(store)) != first
    assert store.kept == {}


def test_waiting_returns_the_task_id_once_the_task_has_succeeded(start_emulator):
    start_emulator(synthesis_time=0.5)
    task_id = operator(wait_for_completion=True, poll_interval=0.1).execute(context())
    assert MpsHook().describe_text_to_speech_task(task_id).is_ready()


def test_waiting_for_a_task_that_fails_fails_without_a_retry(emulator):
    with pytest.raises(TextToSpeechTaskFailed):
        operator(text="[fail]", wait_for_completion=True, poll_interval=0.1).execute(context())


def test_a_failed_task_is_submitted_anew_after_a_clear(start_emulator):
    start_emulator()
    store = MemoryStore()
    failing = {"text": "[fail]", "wait_for_completion": True, "poll_interval": 0.1}
    failed = []
    for max_tries in (0, 1):
        with pytest.raises(TextToSpeechTaskFailed) as caught:
            operator(**failing).execute(context(store, max_tries))
        failed.append(caught.value.task_id)
    assert failed[0] != failed[1]


def test_the_id_is_pushed_before_any_waiting(connect):
    with ScriptedServer(ACCEPTED, api_error("AuthFailure.SecretIdNotFound")) as server:
        connect(server.connection_uri())
        running = context()
        with pytest.raises(MpsPermanentError):
            operator(wait_for_completion=True, poll_interval=0.1).execute(running)
    assert running["ti"].xcoms == {"TaskId": "task-1"}


def test_a_deferrable_one_is_remembered_before_it_waits_in_the_triggerer(connect):
    store = MemoryStore()
    with ScriptedServer(ACCEPTED) as server:
        connect(server.connection_uri())
        waiting = operator(
            wait_for_completion=True,
            deferrable=True,
            poll_interval=30,
            region="ap-singapore",
            execution_timeout=timedelta(minutes=10),
        )
        before = time.time()
        with pytest.raises(TaskDeferred) as deferred:
            waiting.execute(context(store))
        assert len(server.requests) == 1
    _, arguments = deferred.value.trigger.serialize()
    assert arguments["mps_task_id"] == "task-1" == Submission.recalled(store).task_id
    assert (arguments["region"], arguments["poll_interval"]) == ("ap-singapore", 30)
    assert before + 600 <= arguments["deadline"] <= time.time() + 600
    assert deferred.value.method_name == "execute_complete"
    assert deferred.value.kwargs == {"mps_task_id": "task-1"}
    assert deferred.value.timeout > timedelta(minutes=10)


def test_deferred_execution_timeout_counts_from_the_start_of_the_attempt(emulator):
    late = operator(wait_for_completion=True, deferrable=True, execution_timeout=timedelta(minutes=10))
    running = context(MemoryStore())
    running["ti"].start_date = datetime.now(UTC) - timedelta(minutes=9)
    with pytest.raises(TaskDeferred) as deferred:
        late.execute(running)
    deadline = deferred.value.trigger.serialize()[1]["deadline"]
    assert deadline == pytest.approx(running["ti"].start_date.timestamp() + 600)


@pytest.mark.parametrize("reason", ["Trigger timeout", "Trigger failure"])
@pytest.mark.parametrize("store", [None, MemoryStore()])
def test_waiting_that_airflow_ends_is_retried_only_with_store(emulator, reason, store):
    running = context(store)
    running["ti"].xcom_pull = lambda **_: "task-1"
    running["ti"].map_index = -1
    with pytest.raises(AirflowException) as caught:
        operator().resume_execution("__fail__", {"error": reason}, running)
    assert isinstance(caught.value, AirflowFailException) == (store is None)
    assert "task-1" in str(caught.value) or store is not None


@pytest.mark.parametrize("store", [None, MemoryStore()])
def test_execution_timeout_in_the_worker_is_retried_only_with_store(start_emulator, store):
    start_emulator(synthesis_time=60)
    waiting = operator(wait_for_completion=True, poll_interval=0.01)
    with pytest.raises(AirflowTaskTimeout if store else AirflowFailException) as caught, timeout(1):
        waiting.execute(context(store))
    assert ("was still processing at" in str(caught.value)) is (store is not None)


def test_a_failed_task_is_submitted_once_over_all_retries(emulator):
    store = MemoryStore()
    doomed = operator(text="[fail]").execute(context(store))
    store.set(KEY, {**store.get(KEY), "has_ended": False})  # an attempt that timed out while it waited
    for _ in range(3):
        with pytest.raises(TextToSpeechTaskFailed, match=doomed):
            operator(text="[fail]", wait_for_completion=True).execute(context(store))
        store.set(KEY, {**store.get(KEY), "has_ended": False})


def test_deferrable_without_waiting_is_warned_about():
    with pytest.warns(UserWarning, match="deferrable=True of task 'submit' has no effect without wait_for_completion"):
        operator(deferrable=True)


@pytest.mark.parametrize("arguments", [{}, {"deferrable": True, "wait_for_completion": True}, {"deferrable": False}])
def test_deferrable_that_has_an_effect_is_not_warned_about(recwarn, arguments):
    operator(**arguments)
    assert not [warning for warning in recwarn if "deferrable" in str(warning.message)]


def test_deferrable_by_default_is_not_warned_about(recwarn, monkeypatch):
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "true")
    operator(deferrable=True)
    assert not [warning for warning in recwarn if "deferrable" in str(warning.message)]


def test_a_reconnected_one_that_is_done_is_not_deferred(emulator):
    store = MemoryStore()
    first = operator().execute(context(store))
    assert operator(wait_for_completion=True, deferrable=True).execute(context(store)) == first


def test_after_the_triggerer_the_result_is_the_same(emulator):
    task = MpsHook().describe_text_to_speech_task(operator().execute(context()))
    assert operator().execute_complete(context(), event_of(task)) == task.task_id


def test_after_the_triggerer_a_failure_and_a_timeout_are_told(emulator):
    task = MpsHook().describe_text_to_speech_task(operator(text="[fail]").execute(context()))
    with pytest.raises(TextToSpeechTaskFailed):
        operator().execute_complete(context(), event_of(task))
    late = AirflowSensorTimeout("Task task-1 was still processing when the sensor's timeout ended.")
    with pytest.raises(
        AirflowException, match="Task task-1 was still processing when execution_timeout ended"
    ) as caught:
        operator().execute_complete(context(MemoryStore()), event_of(late))
    assert not isinstance(caught.value, AirflowSensorTimeout | AirflowFailException)  # which no retry would follow


def test_after_a_timeout_in_the_triggerer_a_task_that_is_done_after_all_succeeds(emulator, start_emulator):
    late = AirflowSensorTimeout("Task task-1 was still processing when the sensor's timeout ended.")
    done = operator().execute(context())
    assert operator().execute_complete(context(), event_of(late), mps_task_id=done) == done
    failed = operator(text="[fail]").execute(context())
    with pytest.raises(TextToSpeechTaskFailed):
        operator().execute_complete(context(), event_of(late), mps_task_id=failed)


def test_after_a_timeout_in_the_triggerer_what_cannot_be_asked_is_told_as_late(connect, no_waiting):
    late = AirflowSensorTimeout("Task task-1 was still processing when the sensor's timeout ended.")
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowFailException, match="Task task-1 was still processing"):
            operator().execute_complete(context(), event_of(late), mps_task_id="task-1")


@pytest.mark.parametrize(("store", "durable"), [(None, True), (MemoryStore(), False)])
def test_after_a_timeout_in_the_triggerer_nothing_is_paid_anew_where_nothing_remembers_the_submit(store, durable):
    late = AirflowSensorTimeout("Task task-1 was still processing when the sensor's timeout ended.")
    with pytest.raises(AirflowFailException, match=r"Task task-1 .* a clear submits again, which is billed"):
        operator(durable=durable).execute_complete(context(store), event_of(late))


def test_a_killed_task_says_what_goes_on_at_mps(start_emulator, capsys):
    start_emulator(synthesis_time=60)
    killed = operator()
    killed.on_kill()  # before anything was sent
    task_id = killed.execute(context())
    assert "may be billed" not in capsys.readouterr().out
    killed.on_kill()
    assert f"Task {task_id} goes on at MPS, and may be billed: MPS has no call to cancel it" in capsys.readouterr().out


def test_an_interval_that_is_none_is_refused_before_anything_is_paid(connect):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError, match="no number of seconds"):
            operator(poll_interval=-1).execute(context())
        assert server.requests == []


def test_storing_returns_the_path_and_pushes_voice_and_duration(emulator, tmp_path):
    path, xcoms = store(submit(), f"file://{tmp_path}/clip.wav")
    assert path == f"file://{tmp_path}/clip.wav"
    with wave.open(str(tmp_path / "clip.wav")) as audio:
        assert xcoms == {"VoiceId": "v", "duration": audio.getnframes() / audio.getframerate()}


@pytest.mark.parametrize("if_exists", ["overwrite", "skip"])
def test_an_outlet_is_told_of_what_was_stored(emulator, tmp_path, if_exists):
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


def test_a_destination_that_cannot_be_an_asset_is_refused_before_anything_is_stored(emulator, tmp_path):
    deep = "/".join(["a" * 200] * 8)
    with pytest.raises(DestinationError, match="cannot be an asset"):
        store(submit(), f"file://{tmp_path}/{deep}/clip.wav", outlets=[AssetAlias("clips")])
    assert list(tmp_path.iterdir()) == []


def test_lineage_names_source_and_destination_without_the_links_signature(emulator, tmp_path):
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


def test_a_kill_ends_the_transfer_and_leaves_nothing(start_emulator, tmp_path):
    start_emulator(audio_faults=(AudioFault.parse("stall"),))
    operator = TextToSpeechToObjectStorageOperator(
        task_id="store", mps_task_id=submit(), destination=f"file://{tmp_path}/clip.wav"
    )
    before = signal.signal(signal.SIGALRM, lambda *_: operator.on_kill())  # as Airflow does on SIGTERM
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(AudioTransferStopped, match=r"clip\.wav was stopped"):
            operator.execute({"ti": TaskInstance()})
    finally:
        signal.signal(signal.SIGALRM, before)
    assert list(tmp_path.iterdir()) == []


def test_a_kill_after_the_end_does_nothing(emulator, tmp_path):
    operator = TextToSpeechToObjectStorageOperator(
        task_id="store", mps_task_id=submit(), destination=f"file://{tmp_path}/clip.wav"
    )
    operator.execute({"ti": TaskInstance()})
    operator.on_kill()


def test_a_transfer_that_takes_too_long_is_given_up(start_emulator, tmp_path):
    start_emulator(audio_faults=(AudioFault.parse("slow"),))
    with pytest.raises(AudioTransferError, match=r"not stored within 0\.2 seconds"):
        store(submit(text="a longer text " * 50), f"file://{tmp_path}/clip.wav", transfer_timeout=0.2)
    assert list(tmp_path.iterdir()) == []


def test_in_a_folder_the_file_takes_the_audios_own_name(emulator, tmp_path):
    task_id = submit()
    path, _ = store(task_id, f"file://{tmp_path}/new/folder/")
    assert [file.name for file in (tmp_path / "new" / "folder").iterdir()] == [path.rpartition("/")[2]]
    assert path.endswith(f"{task_id.removeprefix('1300000000-DubbingAsync-')}.wav")


def test_a_destination_may_be_an_object_storage_path(emulator, tmp_path):
    path, _ = store(submit(), ObjectStoragePath(f"file://{tmp_path}/clip.wav"))
    assert (tmp_path / "clip.wav").exists()
    assert path == f"file://{tmp_path}/clip.wav"


def test_skip_still_pushes_what_downstream_needs(emulator, tmp_path):
    task_id = submit()
    first = store(task_id, f"file://{tmp_path}/clip.wav")
    assert store(task_id, f"file://{tmp_path}/clip.wav", if_exists="skip") == first


def test_fail_does_not_touch_what_is_there(emulator, tmp_path):
    (tmp_path / "clip.wav").write_bytes(b"old")
    with pytest.raises(DestinationError):
        store(submit(), f"file://{tmp_path}/clip.wav", if_exists="fail")
    assert (tmp_path / "clip.wav").read_bytes() == b"old"


def test_an_unknown_if_exists_is_refused_when_the_dag_is_read():
    with pytest.raises(InvalidRequestError):
        TextToSpeechToObjectStorageOperator(task_id="s", mps_task_id="t", destination="d", if_exists="maybe")


def test_a_task_that_is_still_processing_is_retried_and_the_error_names_the_sensor(start_emulator, tmp_path):
    start_emulator(synthesis_time=60)
    with pytest.raises(AirflowException, match="TextToSpeechTaskSensor") as caught:
        store(submit(), f"file://{tmp_path}/")
    assert not isinstance(caught.value, AirflowFailException)


def test_a_failed_task_is_not_retried(emulator, tmp_path):
    with pytest.raises(TextToSpeechTaskFailed):
        store(submit(text="[fail]"), f"file://{tmp_path}/")


def test_a_success_without_a_link_is_an_error_with_the_request_id(connect, tmp_path):
    with ScriptedServer(json_reply({"Response": {"Status": "success", "RequestId": "req-3"}})) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowException, match=r"no AudioUrl.*req-3"):
            store("task-1", f"file://{tmp_path}/")


@pytest.mark.parametrize("destination", ["", None])
def test_a_missing_destination_fails_before_any_call(connect, destination):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError, match="destination"):
            store("task-1", destination)
        assert server.requests == []


def test_a_link_that_has_expired_is_asked_for_again(connect, tmp_path):
    audio = b"RIFF"
    links = iter(["expired.wav", "fresh.wav"])

    def serve(request):
        if request.method == "POST":
            url = f"{server.url}/{next(links)}"
            return json_reply({"Response": {"Status": "success", "AudioUrl": url, "RequestId": "r"}})
        return audio_reply(audio) if request.target == "/fresh.wav" else Reply(b"", 403)

    with ScriptedServer(serve) as server:
        connect(server.connection_uri())
        store("task-1", f"file://{tmp_path}/clip.wav")
    assert (tmp_path / "clip.wav").read_bytes() == audio


def test_everything_a_user_would_render_is_templated():
    assert set(TextToSpeechOperator.template_fields) == {
        "text",
        "text_path",
        "voice_id",
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
        "mps_conn_id",
        "region",
    }


def test_a_repr_holds_no_secret(emulator):
    operator = TextToSpeechOperator(task_id="submit", text="hello", voice_id="v")
    assert "emulator-key" not in repr(operator) + json.dumps(vars(MpsHook()), default=repr)
