"""The sensor's outcome is the same in every mode, with every flag."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import pytest
from airflow import __version__

from airflow_provider_mps.hooks.mps import MpsHook
from dev.airflow_api import FINISHED
from dev.known_faults import find_known_faults

pytestmark = pytest.mark.slow

IN_ONE_PROCESS = ["reschedule", "poke", "deferred", "without_a_worker"]
"""Run by ``dag.test()``, which has no triggerer: the last mode falls back to a worker."""
IN_A_TRIGGERER = ["deferred", "started_in_triggerer", "ended_in_triggerer", "without_a_worker"]
FLAGS = ["plain", "soft_fail", "never_fail"]
OUTCOMES = ["success", "fail", "rejected", "missing", "timeout"]


@dataclass
class Outcome:
    state: str
    attempts: int
    xcom: Any
    log: str = field(repr=False)


@pytest.fixture(scope="module")
def outcomes(request):
    """Each mode's run with each flag, started on first use."""
    return {}


@pytest.fixture
def outcome_in_one_process(run_dag, emulator, start_emulator, monkeypatch, capfd, outcomes):
    def outcome(mode: str, flag: str, outcome: str) -> Outcome:
        if (mode, flag) not in outcomes:
            hook = MpsHook()
            conf = configuration(hook.submit_text_to_speech)
            fast = emulator.connection_uri
            slow = start_emulator(synthesis_time=600).connection_uri
            conf["timeout"] = MpsHook().submit_text_to_speech("hello", "voice-1")
            monkeypatch.setenv("AIRFLOW_CONN_MPS_DEFAULT", fast)
            monkeypatch.setenv("AIRFLOW_CONN_MPS_SLOW", slow)
            run = run_dag("outcomes", f"{mode}_{flag}", **conf)
            outcomes[mode, flag] = run, capfd.readouterr().out
        run, log = outcomes[mode, flag]
        return Outcome(*run.tasks[outcome], run.xcom(outcome), log)

    return outcome


@pytest.fixture(scope="module")
def outcome_in_a_triggerer(triggerer):
    """All sensors wait at the same time, in one triggerer."""
    conf = configuration(triggerer.submit)
    conf["timeout"] = triggerer.submit_slow("hello", "voice-1")
    dags = [f"{mode}_{flag}" for mode in IN_A_TRIGGERER for flag in FLAGS]
    runs = {dag_id: triggerer.api.trigger(dag_id, conf) for dag_id in dags}
    ended = {}
    for dag_id in dags:
        ended[dag_id] = triggerer.api.wait(dag_id, runs[dag_id], {*FINISHED, "up_for_retry"}, timeout=600)
        if faults := find_faults_of_airflow(triggerer, runs[dag_id], dag_id, ended[dag_id]):
            warnings.warn(f"The DAG run was repeated because Airflow lost a task: {faults[0].message}", stacklevel=1)
            runs[dag_id] = triggerer.api.trigger(dag_id, conf)
            ended[dag_id] = triggerer.api.wait(dag_id, runs[dag_id], timeout=600)

    def outcome(mode: str, flag: str, outcome: str) -> Outcome:
        dag_id = f"{mode}_{flag}"
        state, attempts = ended[dag_id][outcome]
        xcom = triggerer.api.xcom(dag_id, runs[dag_id], outcome) if state == "success" else None
        return Outcome(state, attempts, xcom, triggerer.api.log(dag_id, runs[dag_id], outcome))

    return outcome


def find_faults_of_airflow(triggerer, run_id, dag_id, tasks):
    """Return the known faults of Airflow itself that explain every task with an unexpected state."""
    failed = "failed" if dag_id.endswith("_plain") else "skipped"
    ends = {name: ("success" if name == "success" else failed, 1) for name in tasks}
    unexpected = [f"{dag_id}.{name} {run_id}" for name, end in tasks.items() if end != ends[name]]
    return find_known_faults(unexpected, triggerer.standalone.log.read_text(), __version__)


def configuration(submit):
    return {
        "success": submit("hello", "voice-1"),
        "fail": submit("[fail] hello", "voice-1"),
        "rejected": "no-such-task",
        "missing": "None",
    }


def assert_outcome(outcome: Outcome, flag: str, name: str) -> None:
    if name == "success":
        assert outcome.state == "success"
        duration = outcome.xcom["duration"]
        assert duration > 0
        assert outcome.xcom["AudioUrl"].startswith("http://127.0.0.1")
        assert {**outcome.xcom, "TaskId": "", "AudioUrl": ""} == {
            "TaskId": "",
            "Status": "success",
            "AudioUrl": "",
            "VoiceId": "voice-1",
            "duration": duration,
            "ExtInfo": {"duration": duration},
        }
    else:
        assert outcome.state == ("failed" if flag == "plain" else "skipped")
        assert outcome.xcom is None
    assert outcome.attempts == 1
    if name in MESSAGES and flag == "plain":
        assert MESSAGES[name] in outcome.log


MESSAGES = {
    "fail": "failed: ErrorCode 110",
    "rejected": "ResourceNotFound",
    "missing": "mps_task_id is",
}


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("mode", [pytest.param(mode, marks=pytest.mark.xdist_group(mode)) for mode in IN_ONE_PROCESS])
def test_sensor_every_mode_has_same_outcome(outcome_in_one_process, mode, flag, outcome):
    assert_outcome(outcome_in_one_process(mode, flag, outcome), flag, outcome)


@pytest.mark.airflow_standalone
@pytest.mark.xdist_group("triggerer")
@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("mode", IN_A_TRIGGERER)
def test_sensor_every_mode_in_triggerer_has_same_outcome(outcome_in_a_triggerer, mode, flag, outcome):
    assert_outcome(outcome_in_a_triggerer(mode, flag, outcome), flag, outcome)
