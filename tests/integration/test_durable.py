"""Submits on a real Airflow with its task state store, whose workers and triggerers are killed."""

from __future__ import annotations

import json
import signal

import pytest

from tests.integration.test_triggerer import await_, triggerers

pytestmark = [pytest.mark.airflow_standalone, pytest.mark.xdist_group("triggerer")]


def count_accepted(triggerer, text):
    """Return how often MPS has accepted a text, and bills it."""
    return sum(task.text == text for task in list(triggerer.slow.app.state.tasks._tasks.values()))


def get_log(api, dag_id, run_id, try_number):
    """Return the log of an attempt; empty if the attempt has not started."""
    try:
        return api.log(dag_id, run_id, "submit", try_number)
    except RuntimeError:
        return ""


def clear(api, dag_id, run_id):
    # Wait until the run has ended: the scheduler would otherwise end the cleared task with it.
    await_(lambda: api.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"] in {"success", "failed"})
    body = {"dry_run": False, "dag_run_id": run_id, "only_failed": False, "reset_dag_runs": True}
    api.call("POST", f"/dags/{dag_id}/clearTaskInstances", json=body)


def test_worker_killed_while_waiting_retry_reconnects(triggerer):
    api = triggerer.api
    run_id = api.trigger("killed_while_waiting", {"text": "billed once"})
    await_(lambda: api.tasks("killed_while_waiting", run_id).get("submit", (None, 0))[1] == 2, 240)
    await_(lambda: "Reconnected to task" in get_log(api, "killed_while_waiting", run_id, 2), 240)
    triggerer.finish_slow_tasks()
    assert api.wait("killed_while_waiting", run_id) == {"submit": ("success", 2)}
    assert count_accepted(triggerer, "billed once") == 1
    task_id = api.xcom("killed_while_waiting", run_id, "submit")
    assert task_id in api.log("killed_while_waiting", run_id, "submit", 1)
    assert api.xcom("killed_while_waiting", run_id, "submit", key="TaskId") == task_id

    clear(api, "killed_while_waiting", run_id)
    await_(lambda: api.tasks("killed_while_waiting", run_id)["submit"] == ("success", 3), 240)
    assert "Nothing was submitted again" in api.log("killed_while_waiting", run_id, "submit", 3)
    assert count_accepted(triggerer, "billed once") == 1


def test_worker_killed_after_submit_resubmits_only_after_clear(triggerer):
    api = triggerer.api
    run_id = api.trigger("killed_after_submit", {"text": "unknown outcome"})
    # Two retries were left. The first one fails permanently.
    assert api.wait("killed_after_submit", run_id) == {"submit": ("failed", 2)}
    assert count_accepted(triggerer, "unknown outcome") == 1
    assert "It is unknown whether MPS accepted the text" in api.log("killed_after_submit", run_id, "submit", 2)

    clear(api, "killed_after_submit", run_id)
    await_(lambda: api.tasks("killed_after_submit", run_id)["submit"] == ("success", 3), 240)
    assert "may be billed twice" in api.log("killed_after_submit", run_id, "submit", 3)
    assert count_accepted(triggerer, "unknown outcome") == 2


def test_deferred_submit_returns_and_pushes_task_id(triggerer):
    api = triggerer.api
    run_id = api.trigger("submit_deferred", {"text": "deferred"})
    api.wait("submit_deferred", run_id, {"deferred"})
    task_id = api.xcom("submit_deferred", run_id, "submit", key="TaskId")
    triggerer.finish_slow_tasks()
    assert api.wait("submit_deferred", run_id) == {"submit": ("success", 1)}
    assert api.xcom("submit_deferred", run_id, "submit") == task_id
    assert count_accepted(triggerer, "deferred") == 1


def test_user_ends_deferred_task_logs_pending_task(triggerer):
    api = triggerer.api
    run_id = api.trigger("submit_deferred", {"text": "continues"})
    api.wait("submit_deferred", run_id, {"deferred"})
    task_id = api.xcom("submit_deferred", run_id, "submit", key="TaskId")
    await_(lambda: triggerer.slow.asked_for[task_id])
    api.call("PATCH", f"/dags/submit_deferred/dagRuns/{run_id}", json={"state": "failed"})
    await_(lambda: f"Task {task_id} continues at MPS and may be billed" in read_logs(triggerer, run_id))


def read_logs(triggerer, run_id):
    """Return the logs of a run's tasks and of the triggerer."""
    folder = triggerer.standalone.home / "logs" / "dag_id=submit_deferred" / f"run_id={run_id}"
    return triggerer.standalone.log.read_text() + "".join(log.read_text() for log in folder.rglob("*.log*"))


def test_deferred_batch_survives_killed_triggerer(triggerer, tmp_path):
    api, lines = triggerer.api, [f"batch line {number}" for number in range(20)]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(
        "".join(json.dumps({"id": text.replace(" ", "-"), "text": text, "voice_id": "v"}) + "\n" for text in lines)
    )
    conf = {"manifest": f"file://{manifest}", "destination": f"file://{tmp_path}/clips"}
    run_id = api.trigger("batch_deferred", conf)
    api.wait("batch_deferred", run_id, {"deferred"})
    requests_before = len(triggerer.slow.actions)
    await_(lambda: len(triggerer.slow.actions) >= requests_before + len(lines))

    for process in triggerers(triggerer.standalone):
        process.send_signal(signal.SIGKILL)
    triggerer.finish_slow_tasks()
    with (triggerer.standalone.home / "another-triggerer.log").open("w") as log:
        triggerer.standalone.start("airflow", "triggerer", output=log.fileno())

    assert api.wait("batch_deferred", run_id) == {"batch": ("success", 1)}
    summary = api.xcom("batch_deferred", run_id, "batch")
    assert (summary["lines"], summary["stored"]) == (20, 20)
    assert len(list((tmp_path / "clips").glob("*.wav"))) == 20
    assert {count_accepted(triggerer, text) for text in lines} == {1}
    assert "| stored | 20 |" in api.xcom("batch_deferred", run_id, "batch", key="progress")
