import asyncio
import inspect
import json
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout
from airflow.triggers.base import TriggerEvent

from airflow_provider_mps.exceptions import InvalidMpsConnectionError, MpsPermanentError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.polling.event import task_from_event
from airflow_provider_mps.speech.task import VoiceDesignTask
from airflow_provider_mps.triggers.voices import VoiceDesignTaskTrigger


def get_outcome(trigger):
    async def collect():
        async with asyncio.timeout(30):
            return [event async for event in trigger.run()]

    (event,) = asyncio.run(collect())
    assert type(event) is TriggerEvent
    return task_from_event(json.loads(json.dumps(event.payload)), VoiceDesignTask)


def test_serialize_round_trip_has_every_argument():
    arguments = {
        "mps_task_id": "task-1",
        "mps_conn_id": "my_mps",
        "region": "ap-singapore",
        "poll_interval": 30.0,
        "deferred_at": 1.0,
        "deadline": 2.0,
    }
    path, serialized = VoiceDesignTaskTrigger(**arguments).serialize()
    assert path == "airflow_provider_mps.triggers.voices.VoiceDesignTaskTrigger"
    assert json.loads(json.dumps(serialized)) == arguments
    assert set(inspect.signature(VoiceDesignTaskTrigger).parameters) == set(arguments)


@pytest.mark.parametrize("prompt", ["deep", "[fail] deep"])
def test_run_fires_once_with_finished_design(start_emulator, prompt):
    start_emulator(synthesis_time=0.2)
    task_id = MpsHook().submit_voice_design(prompt, "Narrator")
    task = get_outcome(VoiceDesignTaskTrigger(task_id, poll_interval=0.05))
    assert isinstance(task, VoiceDesignTask)
    assert task.status.value == ("success" if prompt == "deep" else "fail")
    assert bool(task.voice_id) == (prompt == "deep")


def test_run_deadline_reports_last_seen(start_emulator):
    start_emulator(synthesis_time=3600)
    task_id = MpsHook().submit_voice_design("deep", "Narrator")
    trigger = VoiceDesignTaskTrigger(task_id, poll_interval=0.05, deadline=time.time() + 0.5)
    with pytest.raises(AirflowSensorTimeout, match=f"Task {task_id} was still processing"):
        get_outcome(trigger)


def test_run_reports_permanent_errors(emulator):
    with pytest.raises(MpsPermanentError, match="ResourceNotFound"):
        get_outcome(VoiceDesignTaskTrigger("task-1"))
    with pytest.raises(InvalidMpsConnectionError):
        get_outcome(VoiceDesignTaskTrigger("task-1", "no_such_connection"))


def test_event_repr_has_no_signed_url(emulator):
    task_id = MpsHook().submit_voice_design("deep", "Narrator", trial_text="Hello.")

    async def get_event():
        return [event async for event in VoiceDesignTaskTrigger(task_id).run()]

    (event,) = asyncio.run(get_event())
    assert "sign=" in event.payload["audio_url"]
    assert "sign=" not in repr(event)
