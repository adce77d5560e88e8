"""Waiting in a real triggerer: restarts, user actions and deleted connections."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

import psutil
import pytest

pytestmark = [pytest.mark.airflow_standalone, pytest.mark.xdist_group("triggerer")]

MANY = 50


def triggerers(standalone):
    """Return the triggerer's processes, the supervisor first."""
    found = []
    for process in standalone.processes:
        processes = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for child in processes:
            with suppress(psutil.ZombieProcess):  # it has ended, and its parent has not noticed yet
                found += [child] if "triggerer" in " ".join(child.cmdline()) else []
    return found


def test_pipeline_without_worker_passes_xcom_on(triggerer):
    run_id = triggerer.api.trigger("pipeline")
    tasks = triggerer.api.wait("pipeline", run_id)
    assert {state for state, _ in tasks.values()} == {"success"}
    assert triggerer.api.xcom("pipeline", run_id, "report") == "voice-1"
    log = triggerer.api.log("pipeline", run_id, "wait")
    assert ": success (RequestId" in log
    assert "Pre Execute" not in log  # the first line of a worker
    links = triggerer.api.links("pipeline", run_id, "wait")
    assert links["Audio at MPS (expires)"] == triggerer.api.xcom("pipeline", run_id, "wait")["AudioUrl"]
    assert links["API: DescribeTextToSpeechAsyncTask"]


def test_mapped_tasks_start_in_worker_and_end_in_triggerer(triggerer):
    run_id = triggerer.api.trigger("mapped")
    tasks = triggerer.api.wait("mapped", run_id)
    assert {name: state for name, (state, _) in tasks.items()} == dict.fromkeys(
        ["submit[0]", "submit[1]", "wait[0]", "wait[1]"], "success"
    )
    waited = [triggerer.api.xcom("mapped", run_id, "wait", index) for index in range(2)]
    submitted = [triggerer.api.xcom("mapped", run_id, "submit", index) for index in range(2)]
    assert [task["TaskId"] for task in waited] == submitted


def test_logs_contain_no_signed_url(triggerer):
    conf = {"mps_task_id": triggerer.submit("hello", "voice-1"), "mps_conn_id": "mps_default"}
    run_id = triggerer.api.trigger("one", conf)
    triggerer.api.wait("one", run_id)
    url = triggerer.api.xcom("one", run_id, "wait")["AudioUrl"]
    signature = url.rpartition("sign=")[2]
    assert len(signature) > 20
    assert signature not in triggerer.api.log("one", run_id, "wait")
    for log in triggerer.standalone.home.glob("*.log"):
        assert signature not in log.read_text()


def test_triggerer_killed_fifty_tasks_finish_once(triggerer):
    task_ids = [triggerer.submit_slow(f"hello {number}", "voice-1") for number in range(MANY)]
    run_id = triggerer.api.trigger("many", {"mps_task_ids": task_ids, "mps_conn_id": "mps_slow"})
    triggerer.api.wait("many", run_id, {"deferred"})
    polls_before = len(triggerer.slow.actions)
    await_(lambda: len(triggerer.slow.actions) >= polls_before + MANY)  # all tasks are polled

    for process in triggerers(triggerer.standalone):
        process.send_signal(signal.SIGKILL)
    triggerer.finish_slow_tasks()
    with (triggerer.standalone.home / "second-triggerer.log").open("w") as log:
        triggerer.standalone.start("airflow", "triggerer", output=log.fileno())

    tasks = triggerer.api.wait("many", run_id)
    assert set(tasks.values()) == {("success", 1)}
    for number, task_id in enumerate(task_ids):
        assert triggerer.api.xcom("many", run_id, f"wait_{number:02}")["TaskId"] == task_id
    worker_logs = [triggerer.api.log("many", run_id, f"wait_{number:02}") for number in range(MANY)]
    assert [log.count("has succeeded (RequestId") for log in worker_logs] == [1] * 10 + [0] * (MANY - 10)


def test_task_ended_by_user_is_not_polled_others_continue(triggerer):
    ended, waiting = (triggerer.submit_slow("hello", "voice-1") for _ in range(2))
    runs = [
        triggerer.api.trigger("one", {"mps_task_id": task_id, "mps_conn_id": "mps_slow"})
        for task_id in (ended, waiting)
    ]
    for run_id in runs:
        triggerer.api.wait("one", run_id, {"deferred"})
    await_(lambda: triggerer.slow.asked_for[ended] and triggerer.slow.asked_for[waiting])

    triggerer.api.call("PATCH", f"/dags/one/dagRuns/{runs[0]}", json={"state": "failed"})
    triggerer.api.call("DELETE", f"/dags/one/dagRuns/{runs[0]}")

    def only_the_other_task_is_polled():
        before = triggerer.slow.asked_for.copy()
        await_(lambda: triggerer.slow.asked_for[waiting] > before[waiting] + 1)
        return triggerer.slow.asked_for[ended] == before[ended]

    await_(only_the_other_task_is_polled)

    triggerer.finish_slow_tasks()
    assert triggerer.api.wait("one", runs[1]) == {"wait": ("success", 1)}


def test_connection_deleted_while_waiting_task_finishes(triggerer):
    login, password = "slow-id", "slow-key"
    address = triggerer.emulators["mps_slow"].rpartition("@")[2].partition("/")[0]
    host, _, port = address.rpartition(":")
    triggerer.api.call(
        "POST",
        "/connections",
        json={
            "connection_id": "mps_doomed",
            "conn_type": "tencent_mps",
            "host": host,
            "port": int(port),
            "schema": "http",
            "login": login,
            "password": password,
        },
    )
    task_id = triggerer.submit_slow("hello", "voice-1")
    run_id = triggerer.api.trigger("one", {"mps_task_id": task_id, "mps_conn_id": "mps_doomed"})
    await_(lambda: triggerer.slow.asked_for[task_id])

    triggerer.api.call("DELETE", "/connections/mps_doomed")
    before = triggerer.slow.asked_for[task_id]
    await_(lambda: triggerer.slow.asked_for[task_id] > before + 1)
    triggerer.finish_slow_tasks()
    assert triggerer.api.wait("one", run_id) == {"wait": ("success", 1)}


def await_(condition, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
