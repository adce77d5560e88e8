"""Which limit ends a sensor's wait in each mode, and what the error says about the task."""

import threading
import time
from datetime import timedelta

import pytest
from airflow.models.trigger import TRIGGER_FAIL_REPR, TriggerFailureReason
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from airflow_provider_mps.exceptions import MpsPermanentError
from airflow_provider_mps.polling.event import event_from_outcome
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor
from airflow_provider_mps.triggers.task import REQUEUE_GRACE_SECONDS
from tests.answers import PROCESSING
from tests.scripted_server import ScriptedServer, make_api_error
from tests.waiting import SUCCESS

pytestmark = pytest.mark.usefixtures("no_waiting")

SHORTER = pytest.mark.parametrize(
    ("timeout", "execution_timeout", "seconds", "error"),
    [
        (600, None, 600, AirflowSensorTimeout),
        (600, timedelta(0), 600, AirflowSensorTimeout),
        (600, timedelta(seconds=20), 20, AirflowTaskTimeout),
        (600, timedelta(days=1), 600, AirflowSensorTimeout),
        (timedelta(days=7).total_seconds(), timedelta(seconds=20), 20, AirflowTaskTimeout),
    ],
)
SKIPPING = pytest.mark.parametrize("flag", ["soft_fail", "never_fail"])
EVENT = event_from_outcome(AirflowSensorTimeout("Task task-1 was never polled"))


class TaskInstance:
    def __init__(self, first_reschedule=None):
        self.first_reschedule = first_reschedule

    def get_first_reschedule_date(self, _):
        return self.first_reschedule


def sensor(**arguments):
    return TextToSpeechTaskSensor(task_id="wait", mps_task_id="task-1", **arguments)


@pytest.fixture
def processing(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        yield server


@SHORTER
@pytest.mark.usefixtures("processing")
def test_deferral_ends_with_earlier_limit(timeout, execution_timeout, seconds, error):
    waiting = sensor(deferrable=True, timeout=timeout, execution_timeout=execution_timeout)
    started = time.time()
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute({"ti": TaskInstance()})
    assert started + seconds - 1 <= deferred.value.trigger.deadline <= time.time() + seconds
    assert deferred.value.timeout == timedelta(seconds=max(seconds, REQUEUE_GRACE_SECONDS))
    with pytest.raises(error, match=f"still processing at .* when .*timeout \\({seconds:g} s\\) ended"):
        waiting.resume_execution("execute_complete", {"event": EVENT}, {})
    with pytest.raises(error):
        waiting.resume_execution(TRIGGER_FAIL_REPR, {"error": TriggerFailureReason.TRIGGER_TIMEOUT}, {})


@SHORTER
def test_start_from_trigger_ends_with_earlier_limit(timeout, execution_timeout, seconds, error):
    with DAG("dag", schedule=None):
        waiting = sensor(start_from_trigger=True, timeout=timeout, execution_timeout=execution_timeout)
    assert waiting.start_trigger_args.timeout == timedelta(seconds=seconds)


@SKIPPING
@pytest.mark.parametrize("execution_timeout", [None, timedelta(seconds=20)])
@pytest.mark.usefixtures("processing")
def test_deferred_either_limit_with_soft_fail_skips(flag, execution_timeout):
    waiting = sensor(deferrable=True, execution_timeout=execution_timeout, **{flag: True})
    with pytest.raises(AirflowSkipException):
        waiting.resume_execution("execute_complete", {"event": EVENT}, {})


def interrupt_sleep(monkeypatch):
    """Raise what Airflow raises when execution_timeout ends, between two pokes."""

    def sleep(_):
        raise AirflowTaskTimeout("Timeout, PID: 1")

    monkeypatch.setattr("airflow.sdk.bases.sensor.time.sleep", sleep)


@pytest.mark.usefixtures("processing")
def test_poke_mode_execution_timeout_reports_last_seen(monkeypatch):
    interrupt_sleep(monkeypatch)
    with pytest.raises(AirflowTaskTimeout, match=r"Timeout, PID: 1\. Task task-1 was still processing at 20"):
        sensor(mode="poke", execution_timeout=timedelta(seconds=20)).execute({"ti": TaskInstance()})


@SKIPPING
@pytest.mark.usefixtures("processing")
def test_poke_mode_execution_timeout_with_soft_fail_skips(monkeypatch, flag):
    interrupt_sleep(monkeypatch)
    with pytest.raises(AirflowSkipException):
        sensor(mode="poke", **{flag: True}).execute({"ti": TaskInstance()})


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
@pytest.mark.parametrize(
    ("reply", "seen"),
    [
        (PROCESSING, "was still processing at 20"),
        (make_api_error("InternalError"), "could not be polled .*InternalError"),
    ],
)
def test_timeout_reports_last_seen(connect, mode, reply, seen):
    with ScriptedServer(reply) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowSensorTimeout, match=f"timed out.* Task task-1 {seen}") as caught:
            sensor(mode=mode, timeout=0).execute({"ti": TaskInstance()})
    assert mode == "poke" or "still processing" not in str(caught.value) or reply is PROCESSING


def test_last_poll_failure_keeps_trigger_last_seen(connect):
    event = event_from_outcome(AirflowSensorTimeout("Task task-1 could not be polled (last error at 10:00: no role)"))
    with ScriptedServer(make_api_error("InternalError")) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowSensorTimeout, match=r"no role\) when timeout \(604800 s\) ended") as caught:
            sensor(deferrable=True).execute_complete({}, event)
    assert "processing" not in str(caught.value)


def test_rejected_key_deferrable_defers(connect):
    with ScriptedServer(make_api_error("AuthFailure.SecretIdNotFound")) as server:
        connect(server.connection_uri())
        with pytest.raises(TaskDeferred):
            sensor(deferrable=True).execute({"ti": TaskInstance()})
        with pytest.raises(MpsPermanentError):
            sensor(mode="reschedule").execute({"ti": TaskInstance()})


def test_poke_mode_key_that_has_worked_gets_grace_period(connect, monkeypatch):
    monkeypatch.setattr("airflow.sdk.bases.sensor.time.sleep", lambda _: None)
    rejections = [make_api_error("AuthFailure.SecretIdNotFound")] * 10
    with ScriptedServer(PROCESSING, *rejections, SUCCESS) as server:
        connect(server.connection_uri())
        assert sensor(mode="poke").execute({"ti": TaskInstance()})["Status"] == "success"
    with ScriptedServer(*rejections) as server:
        connect(server.connection_uri())
        with pytest.raises(MpsPermanentError):
            sensor(mode="poke").execute({"ti": TaskInstance()})


def test_reschedule_key_replaced_during_poke_is_used(connect, monkeypatch):
    key_replaced = threading.Event()

    def respond(request):
        if "new-id" in request.headers["authorization"]:
            return PROCESSING
        if len(server.requests) == 2:
            connect(server.connection_uri().replace("some-id", "new-id"))
            key_replaced.set()
        return make_api_error("AuthFailure.SecretIdNotFound")

    with ScriptedServer(respond) as server:
        connect(server.connection_uri())
        assert not sensor().poke({}).is_done
    assert key_replaced.is_set()


@pytest.mark.parametrize(("arguments", "state"), [({}, "failed"), ({"soft_fail": True}, "skipped")])
@pytest.mark.usefixtures("processing")
def test_poke_mode_airflow_interrupts_sleep(monkeypatch, capsys, arguments, state):
    task_calls = pytest.importorskip("tests.task_calls")
    with DAG("dag", schedule=None):
        task = sensor(mode="poke", poke_interval=60, execution_timeout=timedelta(seconds=0.5), **arguments)
    assert task_calls.run_attempt(task, monkeypatch)[0] == state
