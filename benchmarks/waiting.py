"""
Many tasks waiting in one process, beside the usual trigger that polls for itself, against a quota of 20 requests/s.

The emulator runs in this process, with 80 ms of latency, and enforces the quota as it counts arrivals. Every candidate
waits in a fresh process. Each task becomes ready at a random moment of one cycle, max(poll interval, N / 20) seconds.
Run it with ``python -m benchmarks.waiting``; ten thousand tasks take a quarter of an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.emulator.app import Options, make_app
from airflow_provider_mps.emulator.server import RunningEmulator
from airflow_provider_mps.emulator.speech import Style

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Wait = Callable[[str], Awaitable[None]]

QUOTA = 20
REQUESTS_PER_SECOND = 18
LATENCY = 0.08
INTERVAL = 10.0
LEAD = 8.0
"""Seconds that a candidate has to start before the first task is ready."""
CANDIDATES = {
    "poller": "this provider's trigger",
    "fail": "each polls for itself, an error fails the task",
    "patient": "each polls on its own, errors are waited out",
}


class Counted:
    """The emulator, which records when each request arrived and whether it was rejected."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.arrivals: list[float] = []
        self.throttled = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""

        async def count(message: Any) -> None:
            if b"RequestLimitExceeded" in message.get("body", b""):
                self.throttled += 1
            await send(message)

        if scope["type"] == "http":
            self.arrivals.append(time.monotonic())
        await self.app(scope, receive, count)


def measure(candidate: str, waiting: int, limit: float) -> dict[str, Any]:
    """Let one candidate wait for so many tasks, in a fresh process, and return what came of it."""
    cycle = max(INTERVAL, waiting / QUOTA)
    options = Options(synthesis_time=(LEAD, LEAD + cycle), latency=LATENCY, rate_limit=QUOTA, voice="tone")
    app = make_app(options)
    counted = Counted(app)
    with RunningEmulator(options, counted) as emulator:
        started = time.monotonic()
        tasks = [app.state.tasks.submit("hi", "voice", None, Style()) for _ in range(waiting)]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.waiting", "--candidate", candidate, "--limit", str(limit)],
            input=json.dumps({task.task_id: task.done_at for task in tasks}),
            env={**os.environ, "AIRFLOW_CONN_MPS_DEFAULT": emulator.connection_uri},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**result, **_arrived(counted, result["noticed_at"], waiting), "seconds": time.monotonic() - started}


def _arrived(counted: Counted, noticed_at: list[float], waiting: int) -> dict[str, Any]:
    arrivals = counted.arrivals
    # Busy: more tasks are waiting than the rate limit can poll in one interval.
    last_busy = waiting - int(REQUESTS_PER_SECOND * INTERVAL)
    until = sorted(noticed_at)[last_busy - 1] if 0 < last_busy <= len(noticed_at) else None
    busy = bisect.bisect(arrivals, until) if until else 0
    return {
        "requests": len(arrivals),
        "throttled": counted.throttled,
        "busy_rate": busy / (until - arrivals[0]) if until else None,
        "most_in_a_second": max(
            (bisect.bisect_left(arrivals, moment + 1) - number for number, moment in enumerate(arrivals)), default=0
        ),
    }


async def wait_all(candidate: str, ready_at: dict[str, float], limit: float) -> dict[str, Any]:
    """Wait for all tasks as the candidate does."""
    noticed: dict[str, float] = {}
    failed: list[str] = []
    wait = _CANDIDATES[candidate]()

    async def one(task_id: str) -> None:
        try:
            await wait(task_id)
        except Exception as error:  # noqa: BLE001 - that it failed is what is measured
            failed.append(str(error))
        else:
            noticed[task_id] = time.monotonic()

    await _warm_up()
    memory = _resident()
    everyone = [asyncio.create_task(one(task_id)) for task_id in ready_at]
    await asyncio.sleep(3)
    memory = _resident() - memory
    started, cpu = time.monotonic(), time.process_time()
    _, late = await asyncio.wait(everyone, timeout=limit)
    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    for task in late:
        task.cancel()
    delays = [moment - ready_at[task_id] for task_id, moment in noticed.items()]
    return {
        "noticed_at": list(noticed.values()),
        "failed": len(failed),
        "mean_delay": statistics.mean(delays) if delays else None,
        "longest_delay": max(delays, default=None),
        "bytes_each": memory / len(ready_at),
        "cores": cpu / seconds,
    }


async def _warm_up() -> None:
    """Import the SDK and connect once, so that what is counted for each task is the task's."""
    from airflow_provider_mps.exceptions import MpsApiError  # noqa: PLC0415
    from airflow_provider_mps.hooks.mps import MpsHook  # noqa: PLC0415

    hook = MpsHook()
    with suppress(MpsApiError):
        await hook.adescribe_text_to_speech_task("no-such-task")
    await hook.aclose()
    await asyncio.sleep(1.5)


def _poller() -> Wait:
    from airflow_provider_mps.triggers.text_to_speech import TextToSpeechTaskTrigger  # noqa: PLC0415

    async def wait(task_id: str) -> None:
        async for event in TextToSpeechTaskTrigger(task_id, poll_interval=INTERVAL).run():
            if event.payload.get("status") != "success":
                raise RuntimeError(str(event.payload))
            return

    return wait


def _for_itself(*, waits_out_errors: bool) -> Wait:
    from airflow_provider_mps.api.actions import make_describe_call  # noqa: PLC0415
    from airflow_provider_mps.exceptions import MpsApiError  # noqa: PLC0415
    from airflow_provider_mps.hooks.mps import MpsHook  # noqa: PLC0415

    # Shared, and with a bounded number of requests: both better than the usual trigger.
    hook, at_once = MpsHook(), asyncio.Semaphore(100)

    async def wait(task_id: str) -> None:
        while True:
            try:
                async with at_once:
                    task = await hook.acall_once(make_describe_call(task_id))
                if task.is_done:
                    return
            except MpsApiError:
                if not waits_out_errors:
                    raise
            await asyncio.sleep(INTERVAL)

    return wait


def _idle() -> Wait:
    from airflow.triggers.base import TriggerEvent  # noqa: PLC0415

    from airflow_provider_mps.triggers.text_to_speech import TextToSpeechTaskTrigger  # noqa: PLC0415

    class Idle(TextToSpeechTaskTrigger):
        async def run(self) -> Any:
            await asyncio.get_running_loop().create_future()
            yield TriggerEvent(None)

    async def wait(task_id: str) -> None:
        async for _ in Idle(task_id).run():
            return

    return wait


_CANDIDATES: dict[str, Callable[[], Wait]] = {
    "poller": _poller,
    "fail": lambda: _for_itself(waits_out_errors=False),
    "patient": lambda: _for_itself(waits_out_errors=True),
    "idle": _idle,
}


def _resident() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123 - no path of the file system
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Measure and print the table, or wait as one of the candidates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, nargs="+", default=[100, 1000, 10_000], help="how many tasks")
    parser.add_argument("--limit", type=float, default=120, help="seconds after which polling for oneself is given up")
    parser.add_argument("--candidate", choices=[*CANDIDATES, "idle"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.candidate:
        print(json.dumps(asyncio.run(wait_all(given.candidate, json.load(sys.stdin), given.limit))))
        return
    print(
        "| waiting | candidate | noticed | failed | throttled | requests/s while busy | most in 1 s "
        "| mean time to notice (target) | CPU, cores | kB each |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    for waiting in given.waiting:
        idle = measure("idle", waiting, 1)["bytes_each"]
        for candidate, name in CANDIDATES.items():
            limit = given.limit if candidate != "poller" else 3600
            _print_row(name, waiting, measure(candidate, waiting, limit), idle)


def _print_row(name: str, waiting: int, result: dict[str, Any], idle: float) -> None:
    target = 1.1 * max(INTERVAL, waiting / QUOTA) / 2 + LATENCY
    delay = "-" if result["mean_delay"] is None else f"{result['mean_delay']:.1f} s"
    busy = "-" if result["busy_rate"] is None else f"{result['busy_rate']:.1f}"
    print(
        f"| {waiting} | {name} | {len(result['noticed_at'])} | {result['failed']} | {result['throttled']} of "
        f"{result['requests']} | {busy} | {result['most_in_a_second']} | {delay} (≤ {target:.1f} s) | "
        f"{result['cores']:.3f} | {(result['bytes_each'] - idle) / 1000:.1f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
