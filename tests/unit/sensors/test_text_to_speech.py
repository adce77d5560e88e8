import os
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from airflow.models.trigger import TRIGGER_FAIL_REPR, TriggerFailureReason
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    Asset,
    TaskDeferred,
    task_group,
)

from airflow_provider_mps.exceptions import MpsPermanentError, TextToSpeechTaskFailed
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator
from airflow_provider_mps.polling.event import event_from_outcome
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor
from airflow_provider_mps.triggers.task import REQUEUE_GRACE_SECONDS
from airflow_provider_mps.triggers.text_to_speech import TextToSpeechTaskTrigger
from tests.answers import PROCESSING
from tests.scripted_server import RESET, ScriptedServer, make_api_error, make_json_reply

pytestmark = pytest.mark.usefixtures("no_waiting")


def sensor(mps_task_id, **arguments):
    return TextToSpeechTaskSensor(task_id="wait", mps_task_id=mps_task_id, **arguments)


def test_mode_default_is_reschedule():
    assert sensor("task-1").mode == "reschedule"


def test_poke_processing_task_is_not_done(start_emulator):
    start_emulator(synthesis_time=60)
    task_id = MpsHook().submit_text_to_speech("hello", "voice")
    assert not sensor(task_id).poke({}).is_done


def test_poke_successful_task_returns_xcom(emulator):
    task_id = MpsHook().submit_text_to_speech("hello", "voice")
    result = sensor(task_id).poke({})
    assert result.is_done
    assert list(result.xcom_value) == ["TaskId", "Status", "AudioUrl", "VoiceId", "duration", "ExtInfo"]


def test_poke_failed_task_raises_with_details(emulator):
    task_id = MpsHook().submit_text_to_speech("[fail] hello", "voice")
    with pytest.raises(TextToSpeechTaskFailed, match=f"{task_id}.*ErrorCode 110.*RequestId"):
        sensor(task_id).poke({})


@pytest.mark.parametrize(("reschedules", "lines"), [(0, 1), (3, 0)])
def test_poke_processing_is_logged_once(connect, capsys, reschedules, lines):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        sensor = TextToSpeechTaskSensor(task_id="wait", mps_task_id="task-1")
        for _ in range(3):
            assert not sensor.poke({"task_reschedule_count": reschedules}).is_done
    assert capsys.readouterr().out.count("is processing") == lines


@pytest.mark.parametrize("fault", [make_api_error("RequestLimitExceeded"), make_api_error("InternalError"), RESET])
def test_poke_transient_error_logs_warning_and_waits(connect, fault, capsys):
    with ScriptedServer(fault) as server:
        connect(server.connection_uri())
        assert not sensor("task-1").poke({}).is_done
        assert len(server.requests) > 1  # the hook's own retries came first
    assert "Polling MPS task task-1 failed, will poll again" in capsys.readouterr().out


def test_poke_permanent_error_raises(connect):
    with ScriptedServer(make_api_error("AuthFailure.SignatureFailure")) as server:
        connect(server.connection_uri())
        with pytest.raises(MpsPermanentError) as caught:
            sensor("task-1").poke({})
    assert isinstance(caught.value, AirflowFailException)


def test_poke_unknown_status_raises_and_is_quoted(connect):
    with ScriptedServer(make_json_reply({"Response": {"Status": "paused", "RequestId": "r"}})) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowFailException, match="'paused'"):
            sensor("task-1").poke({})


@pytest.mark.parametrize("task_id", ["", None, "None"])
def test_poke_missing_task_id_raises_without_request(connect, task_id):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowFailException, match="mps_task_id"):
            sensor(task_id).poke({})
        assert server.requests == []


def test_template_fields():
    assert set(TextToSpeechTaskSensor.template_fields) == {"mps_task_id", "mps_conn_id", "region"}


def deferral(sensor):
    """Run the sensor until it defers."""
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({"ti": NeverRescheduled()})
    return deferred.value


class NeverRescheduled:
    def get_first_reschedule_date(self, _):
        return None


def test_deferrable_polls_once_and_defers(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        deferred = deferral(sensor("task-1", deferrable=True, poke_interval=30, timeout=600, region="ap-singapore"))
        assert len(server.requests) == 1
    path, arguments = deferred.trigger.serialize()
    assert path.endswith("TextToSpeechTaskTrigger")
    now = time.time()
    assert now - 5 < arguments.pop("deferred_at") <= now
    assert now + 590 < arguments.pop("deadline") <= now + 600
    assert arguments == {
        "mps_task_id": "task-1",
        "mps_conn_id": "mps_default",
        "region": "ap-singapore",
        "poll_interval": 30,
        "exponential_backoff": False,
        "max_wait": None,
        "end_from_trigger": False,
    }
    assert deferred.timeout == timedelta(seconds=600)


def test_deferral_timeout_is_not_before_worker_exit(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        deferred = deferral(sensor("task-1", deferrable=True, timeout=2))
    assert deferred.timeout == timedelta(seconds=REQUEUE_GRACE_SECONDS)
    assert deferred.trigger.deadline <= time.time() + 2


def test_deferrable_finished_task_is_not_deferred(emulator):
    task_id = MpsHook().submit_text_to_speech("hello", "voice")
    waited = sensor(task_id, deferrable=True).execute({"ti": NeverRescheduled()})
    assert waited["Status"] == "success"


def test_deferral_passes_backoff_to_trigger(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        waiting = sensor("task-1", deferrable=True, exponential_backoff=True, max_wait=timedelta(minutes=10))
        _, arguments = deferral(waiting).trigger.serialize()
    assert (arguments["exponential_backoff"], arguments["max_wait"]) == (True, 600)


def test_deferrable_throttled_poll_defers(connect):
    with ScriptedServer(make_api_error("RequestLimitExceeded")) as server:
        connect(server.connection_uri())
        deferral(sensor("task-1", deferrable=True))


def test_deferrable_default_follows_airflow_config():
    code = (
        "from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor as Sensor;"
        "print(Sensor(task_id='wait', mps_task_id='task-1').deferrable)"
    )
    environment = {**os.environ, "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True"


def test_execute_complete_timeout_finished_task_succeeds(emulator):
    task_id = MpsHook().submit_text_to_speech("hello", "voice")
    event = event_from_outcome(AirflowSensorTimeout("too late"))
    assert sensor(task_id, deferrable=True).execute_complete({}, event)["Status"] == "success"


def test_execute_complete_timeout_processing_task_raises(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowSensorTimeout):
            sensor("task-1", deferrable=True).execute_complete({}, event_from_outcome(AirflowSensorTimeout("too late")))


def test_resume_trigger_timeout_polls_once_more(emulator, connect):
    task_id = MpsHook().submit_text_to_speech("hello", "voice")
    timeout = {"error": TriggerFailureReason.TRIGGER_TIMEOUT}
    waited = sensor(task_id, deferrable=True).resume_execution(TRIGGER_FAIL_REPR, timeout, {})
    assert waited["Status"] == "success"
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowSensorTimeout):
            sensor(task_id, deferrable=True).resume_execution(TRIGGER_FAIL_REPR, timeout, {})
        with pytest.raises(AirflowSkipException):
            sensor(task_id, deferrable=True, soft_fail=True).resume_execution(TRIGGER_FAIL_REPR, timeout, {})


def test_backoff_thousands_of_pokes_does_not_overflow():
    waiting = sensor("task-1", mode="poke", exponential_backoff=True, max_wait=10)
    assert [waiting._get_next_poke_interval(0, lambda: 0, count) for count in (1024, 1025, 5000)] == [10, 10, 10]


def intervals(sensor, count=200):
    return [sensor._get_next_poke_interval(0, lambda: 0, 1) for _ in range(count)]


def test_poke_interval_has_jitter():
    waits = intervals(sensor("task-1", poke_interval=60))
    assert len({round(wait, 3) for wait in waits}) > 100
    assert 45 <= min(waits) < max(waits) <= 75


def test_poke_interval_throttled_doubles_the_range(connect):
    waiting = sensor("task-1", poke_interval=60)
    with ScriptedServer(make_api_error("RequestLimitExceeded"), PROCESSING) as server:
        connect(server.connection_uri())
        server.script[:] = [make_api_error("RequestLimitExceeded")]
        waiting.poke({})
        assert 60 <= min(waits := intervals(waiting)) < 75 < max(waits) <= 120
        server.script[:] = [PROCESSING]
        waiting.poke({})
        assert max(intervals(waiting)) <= 75


def test_start_from_trigger_sets_trigger_arguments():
    with DAG("dag", schedule=None):
        waiting = sensor(
            "{{ dag_run.conf['id'] }}", start_from_trigger=True, end_from_trigger=True, poke_interval=20, timeout=99
        )
    assert waiting.deferrable
    assert waiting.start_from_trigger
    arguments = waiting.start_trigger_args
    assert arguments.trigger_kwargs == {
        "mps_task_id": "{{ dag_run.conf['id'] }}",
        "mps_conn_id": "mps_default",
        "region": None,
        "poll_interval": 20,
        "exponential_backoff": False,
        "max_wait": None,
        "end_from_trigger": True,
    }
    assert arguments.timeout == timedelta(seconds=99)
    assert arguments.next_method == "execute_complete"
    assert TextToSpeechTaskTrigger(**arguments.trigger_kwargs).end_from_trigger


def test_start_from_trigger_task_output_becomes_template():
    with DAG("dag", schedule=None):
        submit = TextToSpeechOperator(task_id="submit", text="hello", voice_id="v")
        waiting = sensor(submit.output, start_from_trigger=True)
    template = waiting.start_trigger_args.trigger_kwargs["mps_task_id"]
    assert template == "{{ ti.xcom_pull(task_ids='submit', key='return_value', map_indexes=-1) }}"
    assert waiting.upstream_task_ids == {"submit"}


def test_deferral_arguments_are_off_by_default():
    assert not sensor("task-1").deferrable
    assert not sensor("task-1").start_from_trigger
    assert not sensor("task-1").end_from_trigger


def test_start_from_trigger_unsupported_xcom_warns():
    with DAG("dag", schedule=None):
        submit = TextToSpeechOperator(task_id="submit", text="hello", voice_id="v")
    computed = submit.output.map(lambda task_id: task_id)
    for mps_task_id in ("{{ ti.xcom_pull('submit') }}", computed):
        with pytest.warns(UserWarning, match="start_from_trigger of task 'wait' has no effect.*map_indexes=-1"):
            waiting = sensor(mps_task_id, start_from_trigger=True)
        assert waiting.deferrable
        assert not waiting.start_from_trigger


def test_start_from_trigger_mapped_task_group_warns():
    @task_group
    def clip(task_id):
        waiting.append(sensor(task_id, start_from_trigger=True))

    waiting = []
    with DAG("dag", schedule=None), pytest.warns(UserWarning, match="mapped task group"):
        clip.expand(task_id=["task-1", "task-2"])
    assert not waiting[0].start_from_trigger


def test_end_from_trigger_before_airflow_3_3_warns(monkeypatch):
    monkeypatch.delattr("airflow.triggers.base.BaseTrigger.render_template_fields")
    with pytest.warns(UserWarning, match=r"has no effect: a triggerer of Airflow before 3\.3 cannot push XComs safely"):
        waiting = sensor("task-1", end_from_trigger=True)
    assert waiting.deferrable
    assert not waiting.end_from_trigger


@pytest.mark.parametrize("arguments", [{"outlets": [Asset("file:///clip.wav")]}, {"do_xcom_push": False}])
def test_end_from_trigger_unsupported_arguments_warn(arguments):
    with pytest.warns(UserWarning, match="end_from_trigger of task 'wait' has no effect"):
        waiting = sensor("task-1", end_from_trigger=True, **arguments)
    assert waiting.deferrable
    assert not waiting.end_from_trigger
