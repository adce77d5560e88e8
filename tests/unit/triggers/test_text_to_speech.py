import asyncio
import inspect
import json
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent

from airflow_provider_mps.exceptions import InvalidMpsConnectionError, InvalidRequestError, MpsPermanentError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.polling.event import task_from_event
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor
from airflow_provider_mps.speech.task import TaskStatus
from airflow_provider_mps.triggers import task as task_triggers
from airflow_provider_mps.triggers import text_to_speech
from airflow_provider_mps.triggers.text_to_speech import TextToSpeechTaskTrigger
from tests.answers import PROCESSING
from tests.scripted_server import ScriptedServer, make_api_error, make_json_reply

SUCCESS = make_json_reply({"Response": {"Status": "success", "VoiceId": "v", "RequestId": "req-1"}})


def get_events(trigger):
    async def collect():
        async with asyncio.timeout(30):
            return [event async for event in trigger.run()]

    return asyncio.run(collect())


def get_event(trigger):
    (event,) = get_events(trigger)
    assert type(event) is TriggerEvent
    return json.loads(json.dumps(event.payload))


class TaskInstance:
    """The task instance that a triggerer gives its triggers."""

    dag_id, run_id, task_id, map_index = "dag", "run", "wait", -1


@pytest.fixture
def pushed(monkeypatch):
    """Collect what is pushed to XCom, since there is no supervisor here."""
    values = []
    monkeypatch.setattr("airflow.sdk.execution_time.xcom.XCom.set", lambda **given: values.append(given), raising=True)
    return values


def test_serialize_round_trip_is_json():
    arguments = {
        "mps_task_id": "task-1",
        "mps_conn_id": "my_mps",
        "region": "ap-singapore",
        "poll_interval": 30.0,
        "exponential_backoff": True,
        "max_wait": 600.0,
        "deferred_at": 1.0,
        "deadline": 2.0,
        "end_from_trigger": True,
    }
    path, serialized = TextToSpeechTaskTrigger(**arguments).serialize()
    assert json.loads(json.dumps(serialized)) == arguments
    assert path == "airflow_provider_mps.triggers.text_to_speech.TextToSpeechTaskTrigger"
    assert TextToSpeechTaskTrigger(**serialized).serialize() == (path, serialized)


def test_serialize_includes_every_argument():
    _, serialized = TextToSpeechTaskTrigger("task-1").serialize()
    assert set(serialized) == set(inspect.signature(TextToSpeechTaskTrigger).parameters) - {"asked_at"}


def test_trigger_deferred_by_version_1_0_continues():
    arguments = {
        "mps_task_id": "task-1",
        "mps_conn_id": "my_mps",
        "region": None,
        "poll_interval": 30.0,
        "exponential_backoff": False,
        "max_wait": None,
        "asked_at": 1.0,
        "deadline": 2.0,
        "end_from_trigger": False,
    }
    _, serialized = TextToSpeechTaskTrigger(**arguments).serialize()
    assert serialized == {**{name: arguments[name] for name in arguments if name != "asked_at"}, "deferred_at": 1.0}


def test_trigger_arguments_follow_the_contract():
    first_four = list(inspect.signature(TextToSpeechTaskTrigger).parameters)[:4]
    assert first_four == ["mps_task_id", "mps_conn_id", "region", "poll_interval"]


@pytest.mark.parametrize(("text", "status"), [("hello", TaskStatus.SUCCESS), ("[fail] hello", TaskStatus.FAIL)])
def test_run_finished_task_fires_once(emulator, text, status):
    task_id = MpsHook().submit_text_to_speech(text, "voice")
    task = task_from_event(get_event(TextToSpeechTaskTrigger(task_id, poll_interval=0.1)))
    assert (task.task_id, task.status) == (task_id, status)
    assert task.request_id


def test_run_processing_task_polls_until_finished(connect):
    with ScriptedServer(PROCESSING, PROCESSING, SUCCESS) as server:
        connect(server.connection_uri())
        get_event(TextToSpeechTaskTrigger("task-1", poll_interval=0.1))
        assert len(server.requests) == 3


def test_run_uses_its_region_and_connection(monkeypatch):
    with ScriptedServer(SUCCESS) as server:
        monkeypatch.setenv("AIRFLOW_CONN_MY_MPS", server.connection_uri())
        get_event(TextToSpeechTaskTrigger("task-1", "my_mps", "ap-singapore"))
        assert server.requests[0].headers["x-tc-region"] == "ap-singapore"


def test_run_permanent_error_is_reported_to_worker(connect):
    with ScriptedServer(make_api_error("UnauthorizedOperation")) as server:
        connect(server.connection_uri())
        event = get_event(TextToSpeechTaskTrigger("task-1"))
    with pytest.raises(MpsPermanentError, match="Grant the account this MPS action"):
        task_from_event(event)


def test_run_missing_task_id_is_reported_to_worker():
    with pytest.raises(InvalidRequestError, match="mps_task_id"):
        task_from_event(get_event(TextToSpeechTaskTrigger("None")))


def test_run_deadline_raises_sensor_timeout(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        trigger = TextToSpeechTaskTrigger("task-1", poll_interval=0.1, deadline=time.time() + 0.5)
        with pytest.raises(AirflowSensorTimeout, match="task-1"):
            task_from_event(get_event(trigger))


def deadline_error(trigger):
    with pytest.raises(AirflowSensorTimeout) as caught:
        task_from_event(get_event(trigger))
    return str(caught.value)


def test_run_deadline_reports_last_seen(monkeypatch):
    async def see(*_, last_seen, **_options):
        last_seen.record_processing()
        await asyncio.Event().wait()

    monkeypatch.setattr("airflow_provider_mps.polling.poller.wait_for_task", see)
    message = deadline_error(TextToSpeechTaskTrigger("task-1", deadline=time.time() + 0.05))
    assert message.startswith("Task task-1 was still processing at 20")


def test_run_deadline_before_first_poll_says_never_polled(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        now = time.time()
        trigger = TextToSpeechTaskTrigger("task-1", poll_interval=3600, deferred_at=now, deadline=now + 0.2)
        message = deadline_error(trigger)
        assert server.requests == []
    assert message.startswith("Task task-1 was never polled after 20")


def test_run_deadline_reports_connection_failure(monkeypatch):
    async def fail(_):
        raise RuntimeError("https://user:password@vault is down")

    monkeypatch.setattr(MpsHook, "aget_mps_connection", fail)
    message = deadline_error(TextToSpeechTaskTrigger("task-1", deadline=time.time() + 0.3))
    assert "could not be polled (last error at 20" in message
    assert "RuntimeError" in message
    assert "password" not in message


def test_run_client_creation_error_is_reported_at_once(connect, monkeypatch):
    def fail(*_, **__):
        raise ImportError("cannot import name 'common_client_async' from 'tencentcloud.common'")

    monkeypatch.setattr("airflow_provider_mps.api.client.ClientProfile", fail)
    connect("tencent-mps://id:key@mps.invalid/http")
    with pytest.raises(InvalidMpsConnectionError, match="common_client_async"):
        task_from_event(get_event(TextToSpeechTaskTrigger("task-1", deadline=time.time() + 3600)))


def test_run_other_timeout_error_is_raised(monkeypatch):
    async def fail(*_, last_seen, **_options):
        raise TimeoutError("of another library")

    monkeypatch.setattr("airflow_provider_mps.polling.poller.wait_for_task", fail)
    with pytest.raises(TimeoutError, match="another library"):
        get_events(TextToSpeechTaskTrigger("task-1", deadline=time.time() + 60))


def test_run_after_deferral_waits_one_interval(connect):
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        started = time.monotonic()
        get_event(TextToSpeechTaskTrigger("task-1", poll_interval=1, deferred_at=time.time()))
        assert time.monotonic() - started >= 0.9


def test_run_after_restart_polls_at_once(connect, monkeypatch):
    first_polls = []

    async def note(*arguments, last_seen, **_options):
        first_polls.append(arguments[-1])
        raise InvalidRequestError("enough")

    monkeypatch.setattr("airflow_provider_mps.polling.poller.wait_for_task", note)
    get_event(TextToSpeechTaskTrigger("task-1", poll_interval=60, deferred_at=time.time() - 3600))
    get_event(TextToSpeechTaskTrigger("task-1", poll_interval=60))
    assert max(first_polls) <= 0


def test_run_clock_ahead_delays_one_interval_at_most(connect):
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        get_event(TextToSpeechTaskTrigger("task-1", poll_interval=0.2, deferred_at=time.time() + 3600))


def test_run_invalid_interval_is_reported_to_worker():
    with pytest.raises(InvalidRequestError, match="not a number of seconds"):
        task_from_event(get_event(TextToSpeechTaskTrigger("task-1", poll_interval="soon")))


def test_run_task_waits_for_worker_exit(connect, monkeypatch):
    monkeypatch.setattr(task_triggers, "REQUEUE_GRACE_SECONDS", 1.0)
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        trigger = TextToSpeechTaskTrigger("task-1", poll_interval=0.1, deferred_at=time.time())
        trigger.task_instance = TaskInstance()
        started = time.monotonic()
        get_event(trigger)
        assert time.monotonic() - started >= 0.9


def test_run_end_from_trigger_pushes_xcoms_and_succeeds(connect, pushed, monkeypatch):
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        trigger = TextToSpeechTaskTrigger("task-1", end_from_trigger=True, deferred_at=time.time(), poll_interval=0.1)
        trigger.task_instance = TaskInstance()
        monkeypatch.setattr(task_triggers, "REQUEUE_GRACE_SECONDS", 3600.0)  # it does not wait for a worker to exit
        (event,) = get_events(trigger)
    assert isinstance(event, TaskSuccessEvent)
    for xcom in pushed:
        assert (xcom["dag_id"], xcom["run_id"], xcom["task_id"], xcom["map_index"]) == ("dag", "run", "wait", -1)
    values = {xcom["key"]: xcom["value"] for xcom in pushed}
    result = values.pop("return_value")
    assert (result["TaskId"], result["Status"]) == ("task-1", "success")
    # The keys that Airflow reads after a worker has ended the task.
    assert values.keys() == {link.xcom_key for link in TextToSpeechTaskSensor.operator_extra_links}


def test_run_end_from_trigger_failed_task_goes_to_worker(connect, pushed):
    with ScriptedServer(make_json_reply({"Response": {"Status": "fail", "RequestId": "r"}})) as server:
        connect(server.connection_uri())
        trigger = TextToSpeechTaskTrigger("task-1", end_from_trigger=True)
        trigger.task_instance = TaskInstance()
        assert task_from_event(get_event(trigger)).status is TaskStatus.FAIL
    assert pushed == []


def test_run_xcom_push_error_goes_to_worker(connect, monkeypatch):
    def fail(**_):
        raise RuntimeError("no supervisor")

    monkeypatch.setattr("airflow.sdk.execution_time.xcom.XCom.set", fail)
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        trigger = TextToSpeechTaskTrigger("task-1", end_from_trigger=True)
        trigger.task_instance = TaskInstance()
        assert task_from_event(get_event(trigger)).status is TaskStatus.SUCCESS


def test_run_unsafe_triggerer_goes_to_worker(connect, pushed, monkeypatch):
    """A trigger of Airflow 3.0 to 3.2 that pushes XComs may stop all triggers of its triggerer."""
    monkeypatch.setattr(f"{text_to_speech.__name__}.can_call_airflow_in_threads", lambda: False)
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        trigger = TextToSpeechTaskTrigger("task-1", end_from_trigger=True, poll_interval=0.1)
        trigger.task_instance = TaskInstance()
        assert task_from_event(get_event(trigger)).status is TaskStatus.SUCCESS
    assert pushed == []


def test_run_without_task_instance_ends_no_task(connect, pushed):
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        trigger = TextToSpeechTaskTrigger("task-1", end_from_trigger=True)
        assert task_from_event(get_event(trigger)).status is TaskStatus.SUCCESS
    assert pushed == []
