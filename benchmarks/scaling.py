"""
Clips on two Celery workers and two triggerers, of which one each is killed in the middle, and what came of it.

The emulator enforces 20 requests a second of each call over all machines, which share it by ``requests_per_second`` of
their connection. It needs Debian's ``postgresql`` and ``redis-server``, and the extra ``scaling``. Run it with
``python -m benchmarks.scaling``; it takes ten to fifteen minutes on two cores.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from airflow_provider_mps.emulator.app import Options, make_app
from airflow_provider_mps.emulator.server import RunningEmulator
from benchmarks.bulk import write_manifest
from benchmarks.cluster import TRIGGERERS, WORKERS, Cluster
from benchmarks.waiting import Counted
from dev.airflow_api import AirflowApi
from tests.s3_server import S3Server

SYNTHESIS = (30.0, 90.0)
LATENCY = 0.08
SHARE = 6
"""Requests a second for each process that waits, of 20: two triggerers, and the workers' own queries."""
TIMEOUT = 3600


class Downloads(Counted):
    """The emulator, with a count of the downloads of each audio."""

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.audio: Counter[str] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["method"] == "GET":
            self.audio[scope["path"]] += 1
        await super().__call__(scope, receive, send)


def measure(clips: int, lines: int, share: float, *, kill: bool) -> None:
    """Run both DAGs at once, kill a worker and a triggerer in the middle, and print the table."""
    logging.getLogger("airflow_provider_mps.emulator").setLevel(logging.WARNING)
    options = Options(synthesis_time=SYNTHESIS, latency=LATENCY, voice="tone")
    app = make_app(options)
    seen = Downloads(app)
    with (
        tempfile.TemporaryDirectory(prefix="mps-scaling-") as folder,
        S3Server(Path(folder, "s3")) as s3,
        RunningEmulator(options, seen) as emulator,
    ):
        manifest = Path(folder, "manifest.jsonl")
        write_manifest(manifest, lines)
        environment = {
            "AIRFLOW_CONN_MPS_DEFAULT": f"{emulator.connection_uri}&requests_per_second={share:g}",
            f"AIRFLOW_CONN_{s3.conn_id.upper()}": s3.connection(),
        }
        with Cluster(Path(folder, "airflow"), Path(__file__).parent / "dags", environment) as cluster:
            api = AirflowApi(cluster.url)
            conf = {"destination": s3.root, "manifest": f"file://{manifest}", "clips": clips}
            started = time.monotonic()
            runs = {dag_id: api.trigger(dag_id, conf) for dag_id in ("many_clips", "one_batch")}
            stored = s3.folder / "clips"
            if kill:
                _wait_until(lambda: _wavs(stored / "batch") > lines // 4)
                # The one that does the batch, as long as a worker does it.
                worker = next((name for name in WORKERS if "one_batch" in cluster.log_of(name)), WORKERS[0])
                seconds_so_far = time.monotonic() - started
                print(f"{_wavs(stored)} are stored after {seconds_so_far:.0f} s; killing {worker}", flush=True)
                cluster.kill(worker)
                cluster.kill(TRIGGERERS[0])
            seconds: dict[str, float] = {}
            _wait_until(lambda: _note_ended(api, runs, seconds, started))
            _print_runs(api, runs, seconds, stored)
            _print_sums(app, seen)


def _wait_until(condition: Any) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(2)


def _wavs(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*.wav"))


def _note_ended(api: AirflowApi, runs: dict[str, str], seconds: dict[str, float], started: float) -> bool:
    for dag_id, run_id in runs.items():
        ended = api.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"] in {"success", "failed"}
        if ended and dag_id not in seconds:
            seconds[dag_id] = time.monotonic() - started
    return len(seconds) == len(runs)


def _print_runs(api: AirflowApi, runs: dict[str, str], seconds: dict[str, float], stored: Path) -> None:
    print("\n| run | state | seconds | stored | more than one try | failed |\n|---|---|---|---|---|---|")
    for (dag_id, run_id), part in zip(runs.items(), ("clips", "batch"), strict=True):
        instances = api.instances(dag_id, run_id)
        retried = sum(instance["try_number"] > 1 for instance in instances)
        failed = sum(instance["state"] not in {"success"} for instance in instances)
        state = api.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
        print(f"| {dag_id} | {state} | {seconds[dag_id]:.0f} | {_wavs(stored / part)} | {retried} | {failed} |")


def _print_sums(app: Any, seen: Downloads) -> None:
    submitted = Counter(task.text for task in app.state.tasks._tasks.values())
    print(
        f"\nsubmitted: {sum(submitted.values())}, of which twice: {sum(submitted.values()) - len(submitted)}; "
        f"audio fetched: {seen.audio.total()}, of which again: {seen.audio.total() - len(seen.audio)}; "
        f"throttled: {seen.throttled} of {len(seen.arrivals) - seen.audio.total()} requests"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=300, help="by dynamic task mapping")
    parser.add_argument("--lines", type=int, default=300, help="of the batch beside them")
    parser.add_argument("--share", type=float, default=SHARE, help="requests_per_second of the connection")
    parser.add_argument("--no-kill", action="store_true", help="let every worker and triggerer live")
    given = parser.parse_args()
    measure(given.clips, given.lines, given.share, kill=not given.no_kill)


if __name__ == "__main__":
    main()
