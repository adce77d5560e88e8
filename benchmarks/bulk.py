"""
Thousands of lines by one batch, and two hundred in a whole Airflow: by one batch, and by dynamic task mapping.

The emulator runs in this process and enforces 20 requests a second of each call; each task takes 30 to 90 seconds. The
batch runs in a fresh process and stores into a folder. Run it with ``python -m benchmarks.bulk``; ten thousand lines
take eleven minutes, the others as long again. ``--known`` lines are in the result manifest as stored already: they cost
what reading and writing them costs. ``--beside`` runs another version after this one.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from airflow_provider_mps.emulator.app import Options, make_app
from airflow_provider_mps.emulator.server import RunningEmulator
from benchmarks.other_version import add_beside_option, make_environment
from benchmarks.waiting import Counted

QUOTA = 20
SYNTHESIS = (30.0, 90.0)
LATENCY = 0.08
IN_AIRFLOW = 200
WORKERS = 16
THIS_VERSION = Path(__file__).parents[1]


def write_manifest(path: Path, lines: int) -> None:
    """Write so many lines, no two of them alike."""
    with path.open("w") as file:
        for number in range(lines):
            line = {"id": f"clip-{number:06}", "text": f"This is line {number}.", "voice_id": "voice-1"}
            file.write(json.dumps(line) + "\n")


def store_before(destination: Path, lines: int) -> None:
    """Write a result manifest as if so many lines had been stored."""
    from airflow_provider_mps.batch.row import LineStatus, Row  # noqa: PLC0415
    from airflow_provider_mps.speech.request import SpeechRequest  # noqa: PLC0415

    destination.mkdir()
    with (destination / "results.jsonl").open("w") as file:
        for number in range(lines):
            request = SpeechRequest(f"This is line {number}.", "voice-1")
            row = Row(
                f"clip-{number:06}",
                number + 1,
                LineStatus.STORED,
                task_id=f"1300000000-DubbingAsync-00000000-0000-0000-0000-{number:012}",
                path=f"file://{destination}/clip-{number:06}.wav",
                voice_id="voice-1",
                duration=1.5,
                size=48044,
                crc64="1234567890123456789",
                characters=len(request.text),
                request=request.fingerprint("mps_default", None),
            )
            file.write(json.dumps(row.to_json()) + "\n")


def measure(version: Path, lines: int, known: int, quota: int, synthesis: tuple[float, float]) -> dict[str, Any]:
    """Let one batch do so many lines in a fresh process of that version, and return what came of it."""
    options = Options(synthesis_time=synthesis, latency=LATENCY, rate_limit=quota, voice="tone")
    app = make_app(options)
    counted = Counted(app)
    with (
        tempfile.TemporaryDirectory(prefix="mps-benchmark-") as home,
        RunningEmulator(options, counted) as emulator,
        make_environment(version) as environment,
    ):
        manifest, destination = Path(home, "manifest.jsonl"), Path(home, "clips")
        write_manifest(manifest, lines)
        if known:
            store_before(destination, known)
        uri = emulator.connection_uri
        if quota != QUOTA:
            uri += f"&requests_per_second={0.9 * quota:g}"
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.bulk", "--manifest", str(manifest), "--destination", str(destination)],
            env={**environment, "AIRFLOW_CONN_MPS_DEFAULT": uri},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        submitted = Counter(task.text for task in app.state.tasks._tasks.values())
        stored = sum(1 for _ in destination.glob("*.wav"))
    return {
        **result,
        "files": stored,
        "duplicates": sum(submitted.values()) - len(submitted),
        "throttled": counted.throttled,
        "requests": len(counted.arrivals) - stored + known,  # of the API
        "limit": (lines - known) / quota + synthesis[1],
    }


def run_batch(manifest: str, destination: str) -> dict[str, Any]:
    """Do all lines in this process, as a worker does."""
    from airflow_provider_mps.batch import run  # noqa: F401, PLC0415 - imported now, so that only the run is measured
    from airflow_provider_mps.hooks.mps import MpsHook  # noqa: PLC0415
    from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator  # noqa: PLC0415

    MpsHook().get_conn()
    before = _peak()
    started, cpu = time.monotonic(), time.process_time()
    operator = TextToSpeechBatchOperator(
        task_id="batch",
        manifest=f"file://{manifest}",
        destination=f"file://{destination}",
        on_line_failure="continue",
    )
    result = operator.execute({})
    return {
        "seconds": time.monotonic() - started,
        "cpu": time.process_time() - cpu,
        "memory": _peak() - before,
        "stored": result["stored"],
    }


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_airflow() -> None:
    """Do the same lines in a whole Airflow in each way, and print the table."""
    from benchmarks.waiting_in_airflow import _cpu_seconds  # noqa: PLC0415
    from dev.airflow_api import AirflowApi  # noqa: PLC0415
    from dev.standalone import Standalone  # noqa: PLC0415

    logging.getLogger("airflow_provider_mps.emulator").setLevel(logging.WARNING)
    options = Options(synthesis_time=SYNTHESIS, latency=LATENCY, voice="tone")
    app = make_app(options)
    counted = Counted(app)
    print(
        f"\n| {IN_AIRFLOW} lines in Airflow | stored | seconds | CPU, seconds | worker processes | throttled |\n"
        "|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory(prefix="mps-benchmark-") as home, RunningEmulator(options, counted) as emulator:
        manifest = Path(home, "manifest.jsonl")
        write_manifest(manifest, IN_AIRFLOW)
        environment = {
            "AIRFLOW_CONN_MPS_DEFAULT": emulator.connection_uri,
            "AIRFLOW__CORE__PARALLELISM": str(WORKERS),
        }
        with Standalone(Path(home, "airflow"), dags=Path(__file__).parent / "dags", environment=environment) as airflow:
            api = AirflowApi(airflow.url)
            time.sleep(20)  # until all DAGs have been read
            for dag_id in ("batch", "batch_deferred", "mapped"):
                clips = Path(home, dag_id)
                throttled, cpu, started = counted.throttled, _cpu_seconds(airflow), time.monotonic()
                run_id = api.trigger(dag_id, {"manifest": f"file://{manifest}", "destination": f"file://{clips}"})
                api.wait(dag_id, run_id, timeout=3600)
                seconds = time.monotonic() - started
                starts = sum(
                    log.read_text().count('"::group::Pre Execute"')
                    for log in (airflow.home / "logs" / f"dag_id={dag_id}").rglob("attempt=*.log")
                )
                print(
                    f"| {dag_id} | {sum(1 for _ in clips.glob('*.wav'))} | {seconds:.0f} | "
                    f"{_cpu_seconds(airflow) - cpu:.0f} | {starts} | {counted.throttled - throttled} |",
                    flush=True,
                )


def main() -> None:
    """Measure and print the tables, or run a batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=10_000, help="how many; 0 for none")
    parser.add_argument("--known", type=int, default=0, help="how many of them are stored already")
    parser.add_argument("--quota", type=int, default=QUOTA, help="requests a second that the emulator admits")
    parser.add_argument("--synthesis", type=float, nargs=2, default=SYNTHESIS, help="seconds that a task takes")
    parser.add_argument("--airflow", action="store_true", help="the lines in a whole Airflow, too")
    add_beside_option(parser)
    parser.add_argument("--manifest", help=argparse.SUPPRESS)
    parser.add_argument("--destination", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.manifest:
        print(json.dumps(run_batch(given.manifest, given.destination)))
        return
    if given.lines:
        print(
            "| version | lines | stored before | stored | seconds | least (N / quota + longest synthesis) | ratio "
            "| throttled | duplicates | extra memory, MB | CPU, cores |\n|---|---|---|---|---|---|---|---|---|---|---|"
        )
        for version in filter(None, (THIS_VERSION, given.beside)):
            result = measure(version, given.lines, given.known, given.quota, tuple(given.synthesis))
            print(
                f"| {'this' if version is THIS_VERSION else version.name} | {given.lines} | {given.known} | "
                f"{result['stored']} | {result['seconds']:.0f} | {result['limit']:.0f} | "
                f"{result['seconds'] / result['limit']:.3f} | {result['throttled']} of {result['requests']} | "
                f"{result['duplicates']} | {result['memory'] / 1e6:.0f} | {result['cpu'] / result['seconds']:.2f} |",
                flush=True,
            )
    if given.airflow:
        in_airflow()


if __name__ == "__main__":
    main()
