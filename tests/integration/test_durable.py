"""Submits that are paid once, whatever happens to the workers: on a real Airflow, with its state store."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.integration.test_triggerer import await_, triggerers

pytestmark = [pytest.mark.airflow_standalone, pytest.mark.xdist_group("triggerer")]


def accepted(triggerer, text):
    """How often MPS has accepted a text, and bills it."""
    return sum(task.text == text for task in list(triggerer.slow.app.state.tasks._tasks.values()))


def log_so_far(api, dag_id, run_id, try_number):
    """The log of a try that may not have begun."""
    try:
        return api.log(dag_id, run_id, "submit", try_number)
    except RuntimeError:
        return ""


def clear(api, dag_id, run_id):
    # Not before the run has ended: the scheduler would take the cleared task for a part of what it is just ending.
    await_(lambda: api.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"] in {"success", "failed"})
    body = {"dry_run": False, "dag_run_id": run_id, "only_failed": False, "reset_dag_runs": True}
    api.call("POST", f"/dags/{dag_id}/clearTaskInstances", json=body)


def test_a_worker_that_is_killed_while_it_waits_is_followed_by_one_that_goes_on_with_the_task(triggerer):
    api = triggerer.api
    run_id = api.trigger("killed_while_waiting", {"text": "paid once"})
    await_(lambda: api.tasks("killed_while_waiting", run_id).get("submit", (None, 0))[1] == 2, 240)
    await_(lambda: "Reconnected to task" in log_so_far(api, "killed_while_waiting", run_id, 2), 240)
    triggerer.finish_slow_tasks()
    assert api.wait("killed_while_waiting", run_id) == {"submit": ("success", 2)}
    assert accepted(triggerer, "paid once") == 1
    task_id = api.xcom("killed_while_waiting", run_id, "submit")
    assert task_id in api.log("killed_while_waiting", run_id, "submit", 1)
    assert api.xcom("killed_while_waiting", run_id, "submit", key="TaskId") == task_id

    clear(api, "killed_while_waiting", run_id)
    await_(lambda: api.tasks("killed_while_waiting", run_id)["submit"] == ("success", 3), 240)
    assert "Nothing was submitted again" in api.log("killed_while_waiting", run_id, "submit", 3)
    assert accepted(triggerer, "paid once") == 1


def test_a_worker_that_is_killed_between_accepting_and_storing_is_not_paid_twice_until_a_user_clears_it(triggerer):
    api = triggerer.api
    run_id = api.trigger("killed_once_accepted", {"text": "the one window"})
    # Two retries were left, and the second one is not taken.
    assert api.wait("killed_once_accepted", run_id) == {"submit": ("failed", 2)}
    assert accepted(triggerer, "the one window") == 1
    assert "it is unknown whether MPS accepted it" in api.log("killed_once_accepted", run_id, "submit", 2)

    clear(api, "killed_once_accepted", run_id)
    await_(lambda: api.tasks("killed_once_accepted", run_id)["submit"] == ("success", 3), 240)
    assert "may be billed twice" in api.log("killed_once_accepted", run_id, "submit", 3)
    assert accepted(triggerer, "the one window") == 2


def test_waiting_in_the_triggerer_returns_the_task_id_and_keeps_it_where_people_see_it(triggerer):
    api = triggerer.api
    run_id = api.trigger("submit_deferred", {"text": "deferred"})
    api.wait("submit_deferred", run_id, {"deferred"})
    task_id = api.xcom("submit_deferred", run_id, "submit", key="TaskId")
    triggerer.finish_slow_tasks()
    assert api.wait("submit_deferred", run_id) == {"submit": ("success", 1)}
    assert api.xcom("submit_deferred", run_id, "submit") == task_id
    assert accepted(triggerer, "deferred") == 1


def test_a_user_who_ends_the_waiting_is_told_what_goes_on(triggerer):
    api = triggerer.api
    run_id = api.trigger("submit_deferred", {"text": "goes on"})
    api.wait("submit_deferred", run_id, {"deferred"})
    task_id = api.xcom("submit_deferred", run_id, "submit", key="TaskId")
    await_(lambda: triggerer.slow.asked_for[task_id])
    api.call("PATCH", f"/dags/submit_deferred/dagRuns/{run_id}", json={"state": "failed"})
    await_(lambda: f"Task {task_id} goes on at MPS, and may be billed" in told(triggerer, run_id))


def told(triggerer, run_id):
    """What the logs of a run's tasks say, and the triggerer's own."""
    folder = triggerer.standalone.home / "logs" / "dag_id=submit_deferred" / f"run_id={run_id}"
    return triggerer.standalone.log.read_text() + "".join(log.read_text() for log in folder.rglob("*.log*"))


def test_a_batch_leaves_its_waiting_to_the_triggerer_and_outlives_one_that_is_killed(triggerer, tmp_path):
    api, lines = triggerer.api, [f"batch line {number}" for number in range(20)]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(
        "".join(json.dumps({"id": text.replace(" ", "-"), "text": text, "voice_id": "v"}) + "\n" for text in lines)
    )
    conf = {"manifest": f"file://{manifest}", "destination": f"file://{tmp_path}/clips"}
    run_id = api.trigger("batch_deferred", conf)
    api.wait("batch_deferred", run_id, {"deferred"})
    asked_before = len(triggerer.slow.actions)
    while len(triggerer.slow.actions) < asked_before + len(lines):
        time.sleep(0.2)

    for process in triggerers(triggerer.standalone):
        process.send_signal(signal.SIGKILL)
    triggerer.finish_slow_tasks()
    with (triggerer.standalone.home / "another-triggerer.log").open("w") as log:
        triggerer.standalone.start("airflow", "triggerer", output=log.fileno())

    assert api.wait("batch_deferred", run_id) == {"batch": ("success", 1)}
    told = api.xcom("batch_deferred", run_id, "batch")
    assert (told["lines"], told["stored"]) == (20, 20)
    assert len(list((tmp_path / "clips").glob("*.wav"))) == 20
    assert {accepted(triggerer, text) for text in lines} == {1}
    assert "| stored | 20 |" in api.xcom("batch_deferred", run_id, "batch", key="progress")
