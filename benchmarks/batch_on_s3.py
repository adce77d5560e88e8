"""
A batch into object storage with slow requests: its duration, its requests, and what a kill or SIGTERM leaves.

The emulator runs in this process. rclone serves S3 behind a proxy that delays each request and counts it.
``python -m benchmarks.batch_on_s3`` runs one batch; ``--kills`` and ``--terminations`` end some more at random moments.
``--beside FOLDER`` also runs the batch of another version, a checkout in that folder.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.emulator.app import Options, make_app
from airflow_provider_mps.emulator.server import RunningEmulator
from benchmarks.bulk import write_manifest
from benchmarks.other_version import add_beside_option, make_environment
from benchmarks.slow_s3 import SlowProxy
from benchmarks.storing_candidates import BUCKET, CONN_ID
from benchmarks.storing_destinations import S3

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parent.parent
QUOTA = 20
RATE = 18
"""Submits per second: a batch uses 90 % of the quota."""
API_SECONDS = 0.08
SYNTHESIS = (10.0, 20.0)
LOCK = ".mps-batch/lock.json"


class Setting:
    """The emulator, S3 behind a slow proxy, and a manifest; each batch has a folder of its own."""

    def __init__(self, home: Path, lines: int, delay: float, synthesis: tuple[float, float]) -> None:
        self._home = home
        home.mkdir()
        self.lines = lines
        self._delay = delay
        self.synthesis = synthesis
        self._number = 0
        self._errors = (home / "errors.txt").open("w")

    @contextmanager
    def start(self, version: Path) -> Iterator[RunningBatch]:
        """Start a batch in a fresh process of a version."""
        self._number += 1
        options = Options(synthesis_time=self.synthesis, latency=API_SECONDS, rate_limit=QUOTA, voice="tone")
        app = make_app(options)
        manifest, folder = self._home / "manifest.jsonl", self._home / f"s3-{self._number}"
        write_manifest(manifest, self.lines)
        with RunningEmulator(options, app) as emulator, S3(folder) as s3, make_environment(version) as environment:
            connection = json.loads(s3.environment[f"AIRFLOW_CONN_{CONN_ID.upper()}"])
            port = int(connection["extra"]["endpoint_url"].rpartition(":")[2])
            with SlowProxy(port, self._delay) as proxy:
                connection["extra"]["endpoint_url"] = f"http://127.0.0.1:{proxy.port}"
                process = subprocess.Popen(
                    [sys.executable, REPOSITORY / "benchmarks/one_batch.py", f"file://{manifest}", f"{s3.root}/batch/"],
                    env={
                        **environment,
                        "AIRFLOW_CONN_MPS_DEFAULT": emulator.connection_uri,
                        f"AIRFLOW_CONN_{CONN_ID.upper()}": json.dumps(connection),
                    },
                    stdout=subprocess.PIPE,
                    stderr=self._errors,
                    text=True,
                )
                try:
                    yield RunningBatch(process, proxy, folder / BUCKET / "batch", app)
                finally:
                    process.kill()
                    process.wait()


class RunningBatch:
    """A batch in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], proxy: SlowProxy, folder: Path, app: Any) -> None:
        self.process = process
        self.proxy = proxy
        self._folder = folder
        self._app = app

    def wait_for_submits(self, count: int) -> None:
        """Wait until MPS has accepted so many lines."""
        while len(self._app.state.tasks._tasks) < count and self.process.poll() is None:
            time.sleep(0.01)

    def count_duplicates(self) -> int:
        """Return how many lines were accepted more than once."""
        submitted = Counter(task.text for task in self._app.state.tasks._tasks.values())
        return sum(submitted.values()) - len(submitted)

    @property
    def is_locked(self) -> bool:
        """Whether there is a lock."""
        return (self._folder / LOCK).exists()

    def count_submitting(self) -> int:
        """Return how many lines the next batch would call unknown, by the state in the storage."""
        statuses = {}
        for part in [self._folder / "results.jsonl", *sorted((self._folder / ".mps-batch" / "journal").glob("*"))]:
            for line in part.read_text().splitlines() if part.exists() else ():
                with suppress(ValueError):
                    row = json.loads(line)
                    statuses[row["id"]] = row["status"]
        return sum(status == "submitting" for status in statuses.values())

    def count_audio(self) -> int:
        """Return how many clips are stored."""
        return sum(1 for _ in self._folder.glob("*.wav"))


def print_duration(setting: Setting, versions: dict[str, Path]) -> None:
    """Run all lines with each version."""
    least = setting.lines / RATE + setting.synthesis[1]
    print(
        f"\n| {setting.lines} lines | Stored | Billed twice | Seconds (least: {least:.0f}) | Ratio | Requests per line "
        "beside the PUT of its clip | Longest time between results | Lock released after the last clip | CPU |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    details = {}
    for name, version in versions.items():
        with setting.start(version) as batch:
            batch.wait_for_submits(1)
            started = time.monotonic() - API_SECONDS
            printed, _ = batch.process.communicate()
            ended = json.loads(printed.splitlines()[-1])
            proxy = batch.proxy
            requests = details[name] = proxy.requests
            seconds = ended["ended"] - started
            others = sum(requests.values()) - batch.count_audio()
            times = proxy.results_written
            gap = max((after - before for before, after in pairwise(times)), default=0)
            released = proxy.ended["DELETE", "lock"] - proxy.ended["PUT", "clips"]
            print(
                f"| {name} | {batch.count_audio()} | {batch.count_duplicates()} | {seconds:.0f} | "
                f"{seconds / least:.2f} | {others / setting.lines:.2f} | {gap:.0f} s | {released:.1f} s | "
                f"{ended['cpu']:.0f} s |",
                flush=True,
            )
    print(f"\n| Requests | {' | '.join(details)} |\n|---|{'---|' * len(details)}")
    for method, kind in sorted({request for requests in details.values() for request in requests}):
        counts = (str(requests[method, kind]) for requests in details.values())
        print(f"| {method} {kind} | {' | '.join(counts)} |")


def run_until_random_moments(
    setting: Setting, versions: dict[str, Path], count: int, submits: tuple[int, int]
) -> Iterator[tuple[str, RunningBatch]]:
    """Start ``count`` batches of each version, alternately; yield each after a random number of submits."""
    for _ in range(count):
        submitted, delay = random.randint(*submits), random.uniform(0, 0.5)
        for name, version in versions.items():
            with setting.start(version) as batch:
                batch.wait_for_submits(submitted)
                time.sleep(delay)
                yield name, batch


def print_kills(setting: Setting, versions: dict[str, Path], kills: int) -> None:
    """Kill batches at random moments, and count the lines that are unknown then."""
    found: dict[str, list[int]] = {name: [] for name in versions}
    for name, batch in run_until_random_moments(setting, versions, kills, (30, 150)):
        batch.process.kill()
        time.sleep(1)  # requests that have been sent still take effect
        found[name].append(batch.count_submitting())
    print(f"\n| {kills} kills | Lines unknown: mean | Most |\n|---|---|---|")
    for name, counts in found.items():
        print(f"| {name} | {sum(counts) / len(counts):.1f} | {max(counts)} |", flush=True)


def print_terminations(setting: Setting, versions: dict[str, Path], terminations: int) -> None:
    """End batches with SIGTERM at random moments, and measure how long the lock remains."""
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in versions}
    for name, batch in run_until_random_moments(setting, versions, terminations, (250, 350)):
        started = time.monotonic()
        batch.process.terminate()
        while batch.is_locked and time.monotonic() < started + 60:
            time.sleep(0.01)
        found[name].append((time.monotonic() - started, batch.count_submitting()))
    print(f"\n| {terminations} times SIGTERM | Seconds to the release: mean | Longest | Lines unknown |")
    print("|---|---|---|---|")
    for name, outcomes in found.items():
        seconds = [one for one, _ in outcomes]
        unknown = sum(count for _, count in outcomes)
        print(f"| {name} | {sum(seconds) / len(seconds):.2f} | {max(seconds):.2f} | {unknown} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=2000, help="lines of the batch; 0 for none")
    parser.add_argument("--delay", type=float, default=0.04, help="seconds by which each S3 request is delayed")
    parser.add_argument("--synthesis", type=float, nargs=2, default=SYNTHESIS, help="seconds that a task takes")
    parser.add_argument("--kills", type=int, default=0, help="batches of each version that SIGKILL ends")
    parser.add_argument("--terminations", type=int, default=0, help="batches of each version that SIGTERM ends")
    add_beside_option(parser)
    given = parser.parse_args()
    logging.getLogger("airflow_provider_mps.emulator").setLevel(logging.WARNING)
    versions = {"This version": REPOSITORY}
    if given.beside:
        versions[given.beside.name] = given.beside.resolve()
    with tempfile.TemporaryDirectory(prefix="mps-benchmark-") as home:
        synthesis = (given.synthesis[0], given.synthesis[1])
        if given.lines:
            print_duration(Setting(Path(home, "whole"), given.lines, given.delay, synthesis), versions)
        setting = Setting(Path(home, "ended"), 600, given.delay, synthesis)
        if given.kills:
            print_kills(setting, versions, given.kills)
        if given.terminations:
            print_terminations(setting, versions, given.terminations)


if __name__ == "__main__":
    main()
