import asyncio
import inspect
import json
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent

from airflow_provider_mps.errors import InvalidMpsConnectionError, InvalidRequestError, MpsPermanentError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor
from airflow_provider_mps.text_to_speech import TaskStatus
from airflow_provider_mps.triggers import text_to_speech
from airflow_provider_mps.triggers.event import finished_task
from airflow_provider_mps.triggers.text_to_speech import TextToSpeechTaskTrigger
from tests.answers import PROCESSING
from tests.scripted_server import ScriptedServer, api_error, json_reply

SUCCESS = json_reply({"Response": {"Status": "success", "VoiceId": "v", "RequestId": "req-1"}})


def events_of(trigger):
    async def collect():
        async with asyncio.timeout(30):
            return [event async for event in trigger.run()]

    return asyncio.run(collect())


def the_event_of(trigger):
    (event,) = events_of(trigger)
    assert type(event) is TriggerEvent
    return json.loads(json.dumps(event.payload))


class Waiting:
    """The task instance that a triggerer gives its triggers."""

    dag_id, run_id, task_id, map_index = "dag", "run", "wait", -1


@pytest.fixture
def pushed(monkeypatch):
    """What is pushed to XCom; there is no supervisor here to take it."""
    values = []
    monkeypatch.setattr("airflow.sdk.execution_time.xcom.XCom.set", lambda **given: values.append(given), raising=True)
    return values


def test_its_arguments_are_json_and_make_it_anew():
    arguments = {
        "mps_task_id": "task-1",
        "mps_conn_id": "my_mps",
        "region": "ap-singapore",
        "poll_interval": 30.0,
        "exponential_backoff": True,
        "max_wait": 600.0,
        "asked_at": 1.0,
        "deadline": 2.0,
        "end_from_trigger": True,
    }
    path, told = TextToSpeechTaskTrigger(**arguments).serialize()
    assert json.loads(json.dumps(told)) == arguments
    assert path == "airflow_provider_mps.triggers.text_to_speech.TextToSpeechTaskTrigger"
    assert TextToSpeechTaskTrigger(**told).serialize() == (path, told)


def test_every_argument_survives_a_triggerer_restart():
    _, told = TextToSpeechTaskTrigger("task-1").serialize()
    assert set(told) == set(inspect.signature(TextToSpeechTaskTrigger).parameters)


def test_the_contracts_arguments_come_first():
    first_four = list(inspect.signature(TextToSpeechTaskTrigger).parameters)[:4]
    assert first_four == ["mps_task_id", "mps_conn_id", "region", "poll_interval"]


@pytest.mark.parametrize(("text", "status"), [("hello", TaskStatus.SUCCESS), ("[fail] hello", TaskStatus.FAIL)])
def test_it_fires_once_with_the_finished_task(emulator, text, status):
    task_id = MpsHook().submit_text_to_speech(text, "voice")
    task = finished_task(the_event_of(TextToSpeechTaskTrigger(task_id, poll_interval=0.1)))
    assert (task.task_id, task.status) == (task_id, status)
    assert task.request_id


def test_it_waits_until_the_task_has_finished(connect):
    with ScriptedServer(PROCESSING, PROCESSING, SUCCESS) as server:
        connect(server.connection_uri())
        the_event_of(TextToSpeechTaskTrigger("task-1", poll_interval=0.1))
        assert len(server.requests) == 3


def test_it_asks_in_its_region_with_its_connection(monkeypatch):
    with ScriptedServer(SUCCESS) as server:
        monkeypatch.setenv("AIRFLOW_CONN_MY_MPS", server.connection_uri())
        the_event_of(TextToSpeechTaskTrigger("task-1", "my_mps", "ap-singapore"))
        assert server.requests[0].headers["x-tc-region"] == "ap-singapore"


def test_what_waiting_cannot_mend_is_told_to_the_worker(connect):
    with ScriptedServer(api_error("UnauthorizedOperation")) as server:
        connect(server.connection_uri())
        event = the_event_of(TextToSpeechTaskTrigger("task-1"))
    with pytest.raises(MpsPermanentError, match="Grant the account this MPS action"):
        finished_task(event)


def test_a_missing_task_id_is_told_to_the_worker():
    with pytest.raises(InvalidRequestError, match="mps_task_id"):
        finished_task(the_event_of(TextToSpeechTaskTrigger("None")))


def test_a_deadline_ends_the_waiting(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        trigger = TextToSpeechTaskTrigger("task-1", poll_interval=0.1, deadline=time.time() + 0.5)
        with pytest.raises(AirflowSensorTimeout, match="task-1"):
            finished_task(the_event_of(trigger))


def deadline_error(trigger):
    with pytest.raises(AirflowSensorTimeout) as caught:
        finished_task(the_event_of(trigger))
    return str(caught.value)


def test_deadline_reports_what_was_last_seen(monkeypatch):
    async def see(*_, last_seen):
        last_seen.note_processing()
        await asyncio.Event().wait()

    monkeypatch.setattr(text_to_speech, "wait_for_task", see)
    message = deadline_error(TextToSpeechTaskTrigger("task-1", deadline=time.time() + 0.05))
    assert message.startswith("Task task-1 was still processing at 20")


def test_deadline_before_the_first_poll_says_so(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        now = time.time()
        trigger = TextToSpeechTaskTrigger("task-1", poll_interval=3600, asked_at=now, deadline=now + 0.2)
        message = deadline_error(trigger)
        assert server.requests == []
    assert message.startswith("Task task-1 was never polled after 20")


def test_deadline_reports_that_the_connection_could_not_be_used(monkeypatch):
    async def stumble(_):
        raise RuntimeError("https://user:password@vault is down")

    monkeypatch.setattr(MpsHook, "_alook_up", stumble)
    message = deadline_error(TextToSpeechTaskTrigger("task-1", deadline=time.time() + 0.3))
    assert "could not be polled (last error at 20" in message
    assert "RuntimeError" in message
    assert "password" not in message


def test_client_that_cannot_be_made_is_reported_to_the_worker_at_once(connect, monkeypatch):
    def fail(*_, **__):
        raise ImportError("cannot import name 'common_client_async' from 'tencentcloud.common'")

    monkeypatch.setattr("airflow_provider_mps.client.ClientProfile", fail)
    connect("tencent-mps://id:key@mps.invalid/http")
    with pytest.raises(InvalidMpsConnectionError, match="common_client_async"):
        finished_task(the_event_of(TextToSpeechTaskTrigger("task-1", deadline=time.time() + 3600)))


def test_a_timeout_that_is_not_the_deadline_is_not_taken_for_it(monkeypatch):
    async def stumble(*_, last_seen):
        raise TimeoutError("of somebody else")

    monkeypatch.setattr(text_to_speech, "wait_for_task", stumble)
    with pytest.raises(TimeoutError, match="somebody else"):
        events_of(TextToSpeechTaskTrigger("task-1", deadline=time.time() + 60))


def test_what_a_worker_has_asked_is_not_asked_again_at_once(connect):
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        started = time.monotonic()
        the_event_of(TextToSpeechTaskTrigger("task-1", poll_interval=1, asked_at=time.time()))
        assert time.monotonic() - started >= 0.9


def test_after_a_restart_it_asks_at_once(connect, monkeypatch):
    first_polls = []

    async def note(*arguments, last_seen):
        first_polls.append(arguments[-1])
        raise InvalidRequestError("enough")

    monkeypatch.setattr(text_to_speech, "wait_for_task", note)
    the_event_of(TextToSpeechTaskTrigger("task-1", poll_interval=60, asked_at=time.time() - 3600))
    the_event_of(TextToSpeechTaskTrigger("task-1", poll_interval=60))
    assert max(first_polls) <= 0


def test_a_clock_that_runs_ahead_delays_by_one_interval_at_most(connect):
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        the_event_of(TextToSpeechTaskTrigger("task-1", poll_interval=0.2, asked_at=time.time() + 3600))


def test_an_interval_that_is_none_is_told_to_the_worker():
    with pytest.raises(InvalidRequestError, match="no number of seconds"):
        finished_task(the_event_of(TextToSpeechTaskTrigger("task-1", poll_interval="soon")))


def test_it_does_not_fire_before_airflow_has_seen_the_worker_go(connect, monkeypatch):
    monkeypatch.setattr(text_to_speech, "HANDOVER", 1.0)
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        trigger = TextToSpeechTaskTrigger("task-1", poll_interval=0.1, asked_at=time.time())
        trigger.task_instance = Waiting()
        started = time.monotonic()
        the_event_of(trigger)
        assert time.monotonic() - started >= 0.9


def test_where_it_may_it_ends_the_task_itself_and_pushes_the_xcom(connect, pushed, monkeypatch):
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        trigger = TextToSpeechTaskTrigger("task-1", end_from_trigger=True, asked_at=time.time(), poll_interval=0.1)
        trigger.task_instance = Waiting()
        monkeypatch.setattr(text_to_speech, "HANDOVER", 3600.0)  # no worker has to have gone first
        (event,) = events_of(trigger)
    assert isinstance(event, TaskSuccessEvent)
    for xcom in pushed:
        assert (xcom["dag_id"], xcom["run_id"], xcom["task_id"], xcom["map_index"]) == ("dag", "run", "wait", -1)
    values = {xcom["key"]: xcom["value"] for xcom in pushed}
    told = values.pop("return_value")
    assert (told["TaskId"], told["Status"]) == ("task-1", "success")
    # What Airflow itself asks for where a worker ends the task.
    assert values.keys() == {link.xcom_key for link in TextToSpeechTaskSensor.operator_extra_links}


def test_a_failed_task_is_left_to_a_worker(connect, pushed):
    with ScriptedServer(json_reply({"Response": {"Status": "fail", "RequestId": "r"}})) as server:
        connect(server.connection_uri())
        trigger = TextToSpeechTaskTrigger("task-1", end_from_trigger=True)
        trigger.task_instance = Waiting()
        assert finished_task(the_event_of(trigger)).status is TaskStatus.FAIL
    assert pushed == []


def test_an_xcom_that_cannot_be_pushed_is_left_to_a_worker(connect, monkeypatch):
    def refuse(**_):
        raise RuntimeError("no supervisor")

    monkeypatch.setattr("airflow.sdk.execution_time.xcom.XCom.set", refuse)
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        trigger = TextToSpeechTaskTrigger("task-1", end_from_trigger=True)
        trigger.task_instance = Waiting()
        assert finished_task(the_event_of(trigger)).status is TaskStatus.SUCCESS


def test_where_nobody_runs_a_triggerer_it_ends_nothing(connect, pushed):
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        trigger = TextToSpeechTaskTrigger("task-1", end_from_trigger=True)
        assert finished_task(the_event_of(trigger)).status is TaskStatus.SUCCESS
    assert pushed == []
