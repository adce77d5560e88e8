"""The Airflow API calls of one attempt of the sensor, compared with a sensor that does nothing."""

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseSensorOperator

from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor
from tests.answers import PROCESSING
from tests.scripted_server import ScriptedServer
from tests.waiting import SUCCESS

task_calls = pytest.importorskip("tests.task_calls", reason="before Airflow 3 a task had no supervisor")


class BareSensor(BaseSensorOperator):
    template_fields = ("path",)

    def __init__(self, *, path="a", **arguments):
        super().__init__(**arguments)
        self.path = path

    def poke(self, context):
        return False


def run_attempt(kind, monkeypatch, **arguments):
    with DAG("dag", schedule=None):
        task = kind(task_id="wait", **arguments)
    return task_calls.run_attempt(task, monkeypatch)


def test_rescheduled_poke_makes_same_airflow_calls_as_bare_sensor(connect, monkeypatch, capsys):
    _, bare = run_attempt(BareSensor, monkeypatch, mode="reschedule")
    capsys.readouterr()
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        state, ours = run_attempt(TextToSpeechTaskSensor, monkeypatch, mps_task_id="task-1")
        assert len(server.requests) == 1
    assert state == "up_for_reschedule"
    assert ours.calls == bare.calls
    output = "".join(capsys.readouterr())
    assert "error" not in output.lower()
    assert "XCom" not in output


def test_deferral_pushes_no_links(connect, monkeypatch):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        state, ours = run_attempt(TextToSpeechTaskSensor, monkeypatch, mps_task_id="task-1", deferrable=True)
    assert state == "deferred"
    assert ours.calls == ["SetRenderedFields", "GetTaskRescheduleStartDate", "DeferTask"]


def test_finished_attempt_pushes_links_and_pulls_none(emulator, monkeypatch):
    task_id = MpsHook().submit_text_to_speech("hello", "voice")
    state, ours = run_attempt(TextToSpeechTaskSensor, monkeypatch, mps_task_id=task_id)
    assert state == "success"
    assert "GetXCom" not in ours.calls
    assert ours.xcoms["_link_AudioSourceLink"] == ours.xcoms["return_value"]["AudioUrl"]
    assert "document/product/1041/79696" in ours.xcoms["_link_QueryPageLink"]


def test_failed_attempt_pulls_no_xcoms(emulator, monkeypatch, capsys):
    task_id = MpsHook().submit_text_to_speech("[fail] hello", "voice")
    state, ours = run_attempt(TextToSpeechTaskSensor, monkeypatch, mps_task_id=task_id)
    assert state == "failed"
    assert "GetXCom" not in ours.calls
    assert ours.xcoms["_link_AudioSourceLink"] == ""


def test_links_second_attempt_of_one_instance_pushes_them(connect, monkeypatch):
    with DAG("dag", schedule=None):
        task = TextToSpeechTaskSensor(task_id="wait", mps_task_id="task-1")
    with ScriptedServer(PROCESSING, SUCCESS) as server:
        connect(server.connection_uri())
        assert task_calls.run_attempt(task, monkeypatch)[0] == "up_for_reschedule"
        state, ours = task_calls.run_attempt(task, monkeypatch)
    assert state == "success"
    assert "_link_QueryPageLink" in ours.xcoms
