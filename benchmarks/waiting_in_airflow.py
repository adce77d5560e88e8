"""
Two hundred tasks that take a minute each, waited for by a whole Airflow: rescheduled, deferred, and without a worker.

It is ``airflow standalone`` (LocalExecutor, SQLite) with 16 workers at most. The emulator runs in this process and
enforces 20 requests/s. Run it with ``python -m benchmarks.waiting_in_airflow``; it takes a quarter of an hour.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from airflow_provider_mps.emulator.app import Options, make_app
from airflow_provider_mps.emulator.server import RunningEmulator
from airflow_provider_mps.emulator.speech import Style
from benchmarks.dags.waiting_in_airflow import MODES, WAITING
from benchmarks.waiting import Counted
from dev.airflow_api import AirflowApi
from dev.standalone import Standalone

WORKERS = 16
SYNTHESIS = (50.0, 70.0)
IDLE = 30
"""Seconds over which an Airflow is measured that does nothing."""


def measure(mode: str, airflow: Standalone, app: Any, counted: Counted) -> dict[str, Any]:
    """Let one mode wait for all tasks."""
    api = AirflowApi(airflow.url)
    offset = time.time() - time.monotonic()
    tasks = [app.state.tasks.submit("hi", "voice", None, Style()) for _ in range(WAITING)]
    ready_at = {task.task_id: task.done_at + offset for task in tasks}
    counted.throttled, before = 0, len(counted.arrivals)
    cpu, started = _cpu_seconds(airflow), time.monotonic()
    run_id = api.trigger(mode, {"mps_task_ids": list(ready_at)})
    states = api.wait(mode, run_id, timeout=1800)
    cpu, seconds = _cpu_seconds(airflow) - cpu, time.monotonic() - started
    ended = {
        task["task_id"]: datetime.fromisoformat(task["end_date"]).timestamp() for task in api.instances(mode, run_id)
    }
    delays = [ended[f"wait_{number:03}"] - ready for number, ready in enumerate(ready_at.values())]
    return {
        "succeeded": [state for state, _ in states.values()].count("success"),
        "seconds": seconds,
        "cpu": cpu,
        "workers": sum(
            log.read_text().count('"::group::Pre Execute"')
            for log in (airflow.home / "logs" / f"dag_id={mode}").rglob("attempt=*.log")
        ),
        "mean_delay": statistics.mean(delays),
        "longest_delay": max(delays),
        "throttled": counted.throttled,
        "requests": len(counted.arrivals) - before,
    }


def _cpu_seconds(airflow: Standalone) -> float:
    total = 0.0
    for started in airflow.processes[1:]:  # without the emulator
        root = psutil.Process(started.pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.Error):  # it has just ended, and its parent counts it
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def main() -> None:
    """Measure and print the table."""
    options = Options(synthesis_time=SYNTHESIS, latency=0.08, voice="tone")
    app = make_app(options)
    counted = Counted(app)
    dags = Path(__file__).parent / "dags"
    with tempfile.TemporaryDirectory(prefix="mps-benchmark-") as home, RunningEmulator(options, counted) as emulator:
        environment = {
            "AIRFLOW_CONN_MPS_DEFAULT": emulator.connection_uri,
            "AIRFLOW__CORE__PARALLELISM": str(WORKERS),
        }
        with Standalone(Path(home), dags=dags, environment=environment) as airflow:
            print(
                "| mode | succeeded | seconds | CPU, seconds | worker processes | ready to succeeded, mean (longest) "
                "| throttled |\n|---|---|---|---|---|---|---|"
            )
            time.sleep(20)  # until all DAGs have been read
            idle = _cpu_seconds(airflow)
            time.sleep(IDLE)
            idle = (_cpu_seconds(airflow) - idle) / IDLE
            for mode in MODES:
                result = measure(mode, airflow, app, counted)
                print(
                    f"| {mode} | {result['succeeded']} | {result['seconds']:.0f} | "
                    f"{result['cpu'] - idle * result['seconds']:.0f} | {result['workers']} | "
                    f"{result['mean_delay']:.1f} s ({result['longest_delay']:.1f} s) | {result['throttled']} of "
                    f"{result['requests']} |",
                    flush=True,
                )
            print(f"An idle Airflow takes {idle:.2f} CPU seconds a second, which are subtracted.")


if __name__ == "__main__":
    main()
