"""The sensor in DAG runs over HTTP: each row of its contract, in each mode."""

import pytest

from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.polling.intervals import PollInterval
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor
from tests import faulty_emulator
from tests.faulty_emulator import FaultyEmulator

MODES = pytest.mark.parametrize("mode", ["reschedule", "poke", "deferred"])
FAILED_AT_ONCE = {"wait": ("failed", 1)}


def submit(text="hello"):
    return MpsHook().submit_text_to_speech(text, "voice-1")


@pytest.fixture
def faulty(start_emulator):
    app = FaultyEmulator(Options(synthesis_time=0, voice="tone"))
    start_emulator(app)
    return app


@MODES
def test_sensor_every_mode_returns_same_xcom(run_dag, start_emulator, mode):
    start_emulator(synthesis_time=1)
    task_id = submit()
    run = run_dag("waiting", mode, mps_task_id=task_id)
    assert run.state == "success"
    xcom = run.xcom("wait")
    assert xcom.pop("AudioUrl").startswith("http://127.0.0.1")
    duration = xcom.pop("duration")
    assert duration > 0
    assert xcom == {
        "TaskId": task_id,
        "Status": "success",
        "VoiceId": "voice-1",
        "ExtInfo": {"duration": duration},
    }


@MODES
def test_sensor_failed_task_fails_without_retry(run_dag, emulator, mode, capfd):
    task_id = submit("[fail] hello")
    run = run_dag("waiting", mode, mps_task_id=task_id)
    assert run.tasks == FAILED_AT_ONCE
    log = capfd.readouterr().out
    assert f"task {task_id} failed: ErrorCode 110" in log
    assert "RequestId" in log


@MODES
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (faulty_emulator.make_api_error("AuthFailure.SignatureFailure"), "Check Password (SecretKey)"),
        (faulty_emulator.make_api_error("UnauthorizedOperation"), "Grant the account this MPS action"),
        (faulty_emulator.answer(Status="paused"), "'paused'"),
    ],
    ids=["wrong key", "no permission", "unknown status"],
)
def test_sensor_permanent_error_fails_with_advice(run_dag, faulty, mode, fault, message, capfd):
    faulty.faults.append(fault)
    run = run_dag("waiting", mode, mps_task_id="some-task")
    assert run.tasks == FAILED_AT_ONCE
    log = capfd.readouterr().out
    assert message in log
    assert "req-injected" in log


@MODES
@pytest.mark.parametrize("task_id", ["", "None"])
def test_sensor_missing_task_id_fails_without_request(run_dag, faulty, mode, task_id, capfd):
    run = run_dag("waiting", mode, mps_task_id=task_id)
    assert run.tasks == FAILED_AT_ONCE
    assert faulty.actions == []
    assert "mps_task_id is" in capfd.readouterr().out


@MODES
def test_sensor_transient_errors_beyond_hook_retries_are_retried(run_dag, faulty, mode, no_waiting, capfd):
    task_id = submit()
    faulty.faults.extend(
        [
            faulty_emulator.make_api_error("RequestLimitExceeded"),
            (502, b"bad gateway"),
            (200, b"<html>"),
            (200, b'{"no": "Response"}'),
            faulty_emulator.answer(NoStatus="at all"),
            faulty_emulator.make_api_error("InternalError"),
        ]
    )
    run = run_dag("waiting", mode, mps_task_id=task_id)
    assert run.tasks == {"wait": ("success", 1)}
    assert f"Polling MPS task {task_id} failed" in capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["backoff", "deferred_backoff"])
def test_sensor_exponential_backoff_respects_max_wait(run_dag, start_emulator, mode, monkeypatch):
    intervals = []

    def record_results(cls, name):
        method = getattr(cls, name)

        def recorded(*arguments, **named):
            intervals.append(method(*arguments, **named))
            return intervals[-1]

        monkeypatch.setattr(cls, name, recorded)

    record_results(TextToSpeechTaskSensor, "_get_next_poke_interval")
    record_results(PollInterval, "delay_after_polls")
    app = FaultyEmulator(Options(synthesis_time=0, voice="tone"))
    start_emulator(app)
    task_id = submit()
    processing = faulty_emulator.answer(Status="processing")
    # Until the sixth interval, which only max_wait keeps from being longer than 2 seconds.
    app.faults_of = lambda requests: (
        processing if requests < 16 and (len(intervals) < 6 or max(intervals) < 2) else None
    )
    run = run_dag("waiting", mode, mps_task_id=task_id)
    assert run.tasks == {"wait": ("success", 1)}
    polls = [action for action in app.actions if action.startswith("Describe")]
    assert len(polls) < 12  # without backoff there would be 15
    assert min(intervals) < 2
    assert max(intervals) == 2  # without max_wait the last would be 4 to 7 seconds
