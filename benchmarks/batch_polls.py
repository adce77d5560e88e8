"""
In which order a batch polls its lines: this version beside two simpler orders, in simulated time.

The lines, the poll loop and the rate limiters are the real ones; MPS, the storage and the clock are simulated. Run it
with ``python -m benchmarks.batch_polls``; it takes three minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import statistics
from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from airflow_provider_mps.batch import line_processor
from airflow_provider_mps.batch.line import LineDefaults, ManifestLine
from airflow_provider_mps.batch.line_processor import LineProcessor
from airflow_provider_mps.batch.row import LineStatus
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.metrics import Metrics
from airflow_provider_mps.polling.intervals import PollInterval
from airflow_provider_mps.polling.poller import wait_for_task
from airflow_provider_mps.polling.request_gate import RequestGate
from airflow_provider_mps.speech.parsing import OnUnknown
from airflow_provider_mps.speech.task import MpsTask, TaskStatus
from tests.simulated_time import run_in_simulated_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_mps.api.actions import ApiCall
    from airflow_provider_mps.batch.row import Row

REQUESTS_PER_SECOND = 18
INTERVAL = 10.0
RESPONSE_SECONDS = 0.08
LATENCIES: dict[str, Callable[[random.Random, float], float]] = {
    "30 to 90 s": lambda rng, _: rng.uniform(30, 90),
    "1 to 9 s": lambda rng, _: rng.uniform(1, 9),
    "60 s": lambda *_: 60,
    "5 s, or 120 s for 30 %": lambda rng, _: rng.choices((5, 120), (70, 30))[0],
    "exponential, mean 60 s": lambda rng, _: rng.expovariate(1 / 60),
    "10 to 30 s, or 20 minutes for 3 %": lambda rng, _: rng.choices((rng.uniform(10, 30), 1200), (97, 3))[0],
    "300 to 600 s": lambda rng, _: rng.uniform(300, 600),
    "rises from 30 to 120 s": lambda rng, place: (30 + 90 * place) * rng.uniform(0.8, 1.2),
    "falls from 120 to 30 s": lambda rng, place: (120 - 90 * place) * rng.uniform(0.8, 1.2),
}
"""Seconds that MPS takes for a line, from a random number generator and the line's place in the batch, from 0 to 1."""


@dataclass
class Outcome:
    """What came of one simulated batch. Times are in seconds."""

    seconds: float
    least_seconds: float
    """How long the same batch takes if each line is polled once, as soon as it is done and the rate limit allows it."""
    delays: list[float]
    """From the end of each line at MPS until the batch noticed it."""
    ages: list[float]
    """From the acceptance of each line until the batch noticed it."""
    first_poll_ages: list[float]
    wasted: float
    """Polls per line that found it unfinished."""


class SimulatedMps:
    """MPS and the storage, as a line sees them."""

    def __init__(self, latencies: list[float]) -> None:
        self._latencies = latencies
        self._loop = asyncio.get_running_loop()
        self._gate = RequestGate(MpsHook(), "TextToSpeechAsync", None)
        self._polled: set[str] = set()
        self.polls = 0
        self.first_poll_ages: list[float] = []
        self.accepted_at: dict[str, float] = {}
        self.done_at: dict[str, float] = {}
        self.noticed_at: dict[str, float] = {}

    async def submit(self, _: object, row: Row) -> Row:
        """Stand in for ``Submitter.submit``."""
        permit = await self._gate.acquire()
        slot = self._gate.reserve_slot(permit)
        self._gate.release(permit)
        await self._gate.sleep_until(slot)
        await asyncio.sleep(RESPONSE_SECONDS)
        name = str(row.id)
        self.accepted_at[name] = self._loop.time()
        self.done_at[name] = self._loop.time() + self._latencies[len(self.done_at)]
        return row.with_status(LineStatus.PROCESSING, task_id=name)

    async def poll(self, call: ApiCall[Any], *_: object) -> MpsTask:
        """Stand in for ``MpsHook.acall_once``."""
        await asyncio.sleep(RESPONSE_SECONDS)
        name, now = call.params["TaskId"], self._loop.time()
        self.polls += 1
        if name not in self._polled:
            self._polled.add(name)
            self.first_poll_ages.append(now - self.accepted_at[name])
        return MpsTask(name, TaskStatus.SUCCESS if self.done_at[name] <= now else TaskStatus.PROCESSING)

    async def store(self, row: Row, _: MpsTask) -> Row:
        """Stand in for ``Storer.store``."""
        self.noticed_at[str(row.id)] = self._loop.time()
        return row


async def do_nothing(*_: object) -> None:
    """Stand in for what does not matter here."""


def simulate(latencies: list[float], wait: Callable[..., Any] = wait_for_task, interval: float = INTERVAL) -> Outcome:
    """
    Run a batch of so many lines.

    :param wait: replaces ``wait_for_task``
    """

    async def run() -> Outcome:
        mps = SimulatedMps(latencies)
        rows: dict[Any, Row] = {}
        row_store = SimpleNamespace(find=rows.get, put=lambda row: rows.update({row.key: row}))
        state: Any = SimpleNamespace(row_store=row_store, record=do_nothing)
        options: Any = SimpleNamespace(
            defaults=LineDefaults(),
            manifest=None,
            mps_conn_id="mps_default",
            region=None,
            interval=PollInterval(interval),
            on_unknown=OnUnknown.FAIL,
        )
        client = SimpleNamespace(
            connection=SimpleNamespace(region="region", requests_per_second=REQUESTS_PER_SECOND),
            credential=SimpleNamespace(refresh=do_nothing),
        )

        async def get_client(_: MpsHook) -> Any:
            return client

        started = asyncio.get_running_loop().time()
        with (
            mock.patch.object(MpsHook, "aget_conn", get_client),
            mock.patch.object(MpsHook, "aclose", do_nothing),
            mock.patch.object(MpsHook, "acall_once", lambda _, *arguments: mps.poll(*arguments)),
            mock.patch.object(line_processor, "wait_for_task", wait),
        ):
            lines = LineProcessor(options, state, mps, mps, mps, logging.getLogger(__name__), Metrics("mps_default"))  # type: ignore[arg-type]
            async with asyncio.TaskGroup() as group:
                for number in range(len(latencies)):
                    fields = {"text": f"Line {number}.", "voice_id": "voice-1"}
                    await lines.begin(ManifestLine(number + 1, str(number), fields), group)
        least = 0.0
        for done_at in sorted(mps.done_at.values()):
            least = max(least + 1 / REQUESTS_PER_SECOND, done_at)
        return Outcome(
            max(mps.noticed_at.values()) - started,
            least - started,
            [mps.noticed_at[name] - done_at for name, done_at in mps.done_at.items()],
            [mps.noticed_at[name] - accepted_at for name, accepted_at in mps.accepted_at.items()],
            mps.first_poll_ages,
            mps.polls / len(latencies) - 1,
        )

    outcome: Outcome = run_in_simulated_time(run())
    return outcome


def make_latencies(name: str, lines: int, seed: int) -> list[float]:
    """Return the seconds that MPS takes for each line."""
    rng = random.Random(seed)
    return [LATENCIES[name](rng, number / lines) for number in range(lines)]


def make_interval_wait() -> Callable[..., Any]:
    """Poll each line every ``poll_interval``, the one due first before the others."""

    async def wait(*arguments: Any, **_: Any) -> MpsTask:
        return await wait_for_task(*arguments)

    return wait


def make_median_wait() -> Callable[..., Any]:
    """Do the same from nine tenths of the median of the last 100 measured latencies on, as version 1.0 does."""
    measured: deque[float] = deque(maxlen=100)

    async def wait(
        task_id: str, interval: PollInterval, conn_id: str, region: str | None, delay: float, **_: Any
    ) -> MpsTask:
        if measured:
            delay = max(delay, 0.9 * statistics.median(measured))
        clock = asyncio.get_running_loop().time
        started = clock()
        task = await wait_for_task(task_id, interval, conn_id, region, delay)
        measured.append(clock() - started)
        return task

    return wait


ORDERS: dict[str, Callable[[], Callable[..., Any]]] = {
    "oldest first (this version)": lambda: wait_for_task,
    "from 0.9 of the median on (1.0)": make_median_wait,
    "every poll_interval": make_interval_wait,
}


def main() -> None:
    """Simulate and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=10_000, help="lines of each batch")
    parser.add_argument("--runs", type=int, default=1, help="batches of each kind; the table has their means")
    given = parser.parse_args()
    logging.getLogger("airflow_provider_mps").disabled = True
    logging.getLogger("airflow_provider_mps.polling.poller").disabled = True
    print(
        "| latency of MPS | order | seconds | least | ratio | mean delay | longest delay | wasted polls per line |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for latency in LATENCIES:
        for order, make_wait in ORDERS.items():
            outcomes = [simulate(make_latencies(latency, given.lines, seed), make_wait()) for seed in range(given.runs)]
            seconds = statistics.mean(outcome.seconds for outcome in outcomes)
            least = statistics.mean(outcome.least_seconds for outcome in outcomes)
            mean_delay = statistics.mean(statistics.mean(outcome.delays) for outcome in outcomes)
            longest_delay = max(max(outcome.delays) for outcome in outcomes)
            wasted = statistics.mean(outcome.wasted for outcome in outcomes)
            print(
                f"| {latency} | {order} | {seconds:.0f} | {least:.0f} | {seconds / least:.3f} | {mean_delay:.0f} | "
                f"{longest_delay:.0f} | {wasted:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
