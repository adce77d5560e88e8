"""Waiting in a real triggerer, and what may happen to it meanwhile."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

import psutil
import pytest

pytestmark = [pytest.mark.airflow_standalone, pytest.mark.xdist_group("triggerer")]

MANY = 50


def triggerers(standalone):
    """The triggerer's processes: the supervisor first."""
    found = []
    for process in standalone.processes:
        everyone = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for child in everyone:
            with suppress(psutil.ZombieProcess):  # which has ended, and waits for its parent to notice
                found += [child] if "triggerer" in " ".join(child.cmdline()) else []
    return found


def test_a_pipeline_that_waits_without_a_worker_passes_its_xcom_on(triggerer):
    run_id = triggerer.api.trigger("pipeline")
    tasks = triggerer.api.wait("pipeline", run_id)
    assert {state for state, _ in tasks.values()} == {"success"}
    assert triggerer.api.xcom("pipeline", run_id, "tell") == "voice-1"
    log = triggerer.api.log("pipeline", run_id, "wait")
    assert ": success (RequestId" in log
    assert "Pre Execute" not in log  # which is what a worker says first
    links = triggerer.api.links("pipeline", run_id, "wait")
    assert links["Audio at MPS (expires)"] == triggerer.api.xcom("pipeline", run_id, "wait")["AudioUrl"]
    assert links["API: DescribeTextToSpeechAsyncTask"]


def test_mapped_tasks_are_started_by_a_worker_and_end_in_the_triggerer(triggerer):
    run_id = triggerer.api.trigger("mapped")
    tasks = triggerer.api.wait("mapped", run_id)
    assert {name: state for name, (state, _) in tasks.items()} == dict.fromkeys(
        ["submit[0]", "submit[1]", "wait[0]", "wait[1]"], "success"
    )
    waited = [triggerer.api.xcom("mapped", run_id, "wait", index) for index in range(2)]
    submitted = [triggerer.api.xcom("mapped", run_id, "submit", index) for index in range(2)]
    assert [task["TaskId"] for task in waited] == submitted


def test_a_signed_link_is_in_no_log_of_waiting(triggerer):
    conf = {"mps_task_id": triggerer.submit("hello", "voice-1"), "mps_conn_id": "mps_default"}
    run_id = triggerer.api.trigger("one", conf)
    triggerer.api.wait("one", run_id)
    link = triggerer.api.xcom("one", run_id, "wait")["AudioUrl"]
    signature = link.rpartition("sign=")[2]
    assert len(signature) > 20
    assert signature not in triggerer.api.log("one", run_id, "wait")
    for log in triggerer.standalone.home.glob("*.log"):
        assert signature not in log.read_text()


def test_fifty_tasks_outlive_a_triggerer_that_is_killed_and_none_finishes_twice(triggerer):
    task_ids = [triggerer.submit_slow(f"hello {number}", "voice-1") for number in range(MANY)]
    run_id = triggerer.api.trigger("many", {"mps_task_ids": task_ids, "mps_conn_id": "mps_slow"})
    triggerer.api.wait("many", run_id, {"deferred"})
    asked_before = len(triggerer.slow.actions)
    while len(triggerer.slow.actions) < asked_before + MANY:  # all are waited for
        time.sleep(0.2)

    for process in triggerers(triggerer.standalone):
        process.send_signal(signal.SIGKILL)
    triggerer.finish_slow_tasks()
    with (triggerer.standalone.home / "second-triggerer.log").open("w") as log:
        triggerer.standalone.start("airflow", "triggerer", output=log.fileno())

    tasks = triggerer.api.wait("many", run_id)
    assert set(tasks.values()) == {("success", 1)}
    for number, task_id in enumerate(task_ids):
        assert triggerer.api.xcom("many", run_id, f"wait_{number:02}")["TaskId"] == task_id
    back_on_a_worker = [triggerer.api.log("many", run_id, f"wait_{number:02}") for number in range(MANY)]
    assert [log.count("has succeeded (RequestId") for log in back_on_a_worker] == [1] * 10 + [0] * (MANY - 10)


def test_a_task_that_a_user_ends_is_no_longer_asked_for_and_others_wait_on(triggerer):
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

    def only_the_other_is_asked_for():
        before = triggerer.slow.asked_for.copy()
        await_(lambda: triggerer.slow.asked_for[waiting] > before[waiting] + 1)
        return triggerer.slow.asked_for[ended] == before[ended]

    await_(only_the_other_is_asked_for)

    triggerer.finish_slow_tasks()
    assert triggerer.api.wait("one", runs[1]) == {"wait": ("success", 1)}


def test_a_connection_may_be_deleted_while_it_is_waited_on(triggerer):
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
