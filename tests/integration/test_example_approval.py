"""Run the example DAG ``text_to_speech_approval``, in which a human approves a batch before it is billed."""

import importlib
import json
import sys

import pytest

from airflow_provider_mps.emulator.app import Options, make_app
from dev.airflow_api import AirflowApi
from dev.standalone import Standalone
from tests.batching import accepted, wait_until

MODULE = DAG = "text_to_speech_approval"


@pytest.fixture
def app(start_emulator):
    app = make_app(Options(synthesis_time=0, voice="tone"))
    start_emulator(app)
    return app


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "speak", "clips"), [(75, "success", 3), (74, "skipped", 0)])
def test_example_before_airflow_3_1_compares_with_the_limit(run_dag, app, tmp_path, monkeypatch, limit, speak, clips):
    # It keeps the version that it is imported with.
    importlib.import_module("airflow.providers.standard.operators.hitl")
    monkeypatch.setattr("airflow.__version__", "3.0.6")
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    run = run_dag(MODULE, DAG, destination=f"file://{tmp_path}", max_characters=limit)
    monkeypatch.delitem(sys.modules, MODULE)
    assert run.state == "success"
    assert run.tasks["speak"][0] == speak
    assert len(list(tmp_path.rglob("*.wav"))) == sum(accepted(app).values()) == clips


@pytest.fixture(scope="module")
def standalone(tmp_path_factory):
    """A whole Airflow, and an emulator."""
    heartbeats = {"AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1"}
    home = tmp_path_factory.mktemp("approval")
    with Standalone(home, emulator=("--synthesis-time", "1"), environment=heartbeats) as standalone:
        yield standalone


def respond(api, run_id, option):
    path = f"/dags/{DAG}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"
    api.call("PATCH", path, json={"chosen_options": [option], "params_input": {}})


def wait_for_approval(standalone, api, run_id):
    """Return what the human sees, once the scheduler knows that the worker has left: earlier, a response may fail."""
    states = {}

    def is_waiting():
        states.update(api.tasks(DAG, run_id))
        assert not {"failed", "upstream_failed"} & {state for state, _ in states.values()}
        return states["approve"][0] in {"awaiting_input", "deferred"}

    wait_until(is_waiting, timeout=120)
    wait_until(lambda: standalone.has_ended_process(DAG, "approve", run_id))
    return api.call("GET", f"/dags/{DAG}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails")


@pytest.mark.airflow_standalone
@pytest.mark.example_dag("text_to_speech_approval")
@pytest.mark.xdist_group("triggerer")
def test_approval_is_binding_and_a_rejection_submits_nothing(standalone, tmp_path):
    api = AirflowApi(standalone.url)
    manifest = tmp_path / "manifest.jsonl"

    def write(*texts):
        lines = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
        manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def start(name, price=None):
        conf = {"manifest": f"file://{manifest}", "destination": f"file://{tmp_path}/{name}", "price": price}
        run_id = api.trigger(DAG, conf)
        return run_id, wait_for_approval(standalone, api, run_id)

    write("One.", "Two.")
    rejected, details = start("rejected", 2.5)
    assert details["subject"] == "Speak 2 lines with 8 characters?"
    assert "| **total** | 2 | 8 | 0.0200 |" in details["body"]
    respond(api, rejected, "Reject")
    assert api.wait(DAG, rejected)["speak"][0] == "skipped"
    assert not (tmp_path / "rejected").exists()
    emulator_log = standalone.home / "emulator.log"
    assert "accepted task" not in emulator_log.read_text()

    approved, _ = start("approved")
    respond(api, approved, "Approve")
    assert api.wait(DAG, approved)["speak"][0] == "success"
    assert len(list((tmp_path / "approved").glob("*.wav"))) == 2
    assert emulator_log.read_text().count("accepted task") == 2

    changed, _ = start("changed")
    write("One.", "Two.", "Three.")
    respond(api, changed, "Approve")
    assert api.wait(DAG, changed)["speak"] == ("failed", 1)  # not retried
    assert emulator_log.read_text().count("accepted task") == 2
    assert "more than max_total_characters (8)" in api.log(DAG, changed, "speak")
