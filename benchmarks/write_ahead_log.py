"""
Measure what slow storage costs a batch: lines at risk of ``unknown``, lines per second, and writes per line.

A batch records that it is about to submit a line, submits it, and records the outcome. A kill between those two writes
leaves the line ``unknown``. The batch's own submitter and write-ahead log run beside a log that writes each row by
itself; MPS and the storage are sleeps. ``python -m benchmarks.write_ahead_log``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import fsspec
from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow.sdk.io import attach

from airflow_provider_mps.api.actions import SubmitResult
from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.row_store import RowStore
from airflow_provider_mps.batch.state import BatchState
from airflow_provider_mps.batch.submitter import Submitter
from airflow_provider_mps.batch.write_ahead_log import WriteAheadLog
from airflow_provider_mps.connection_form import DEFAULT_REQUESTS_PER_SECOND
from airflow_provider_mps.speech.parsing import OnUnknown
from airflow_provider_mps.speech.request import SpeechRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LINES = 300
READ_AHEAD = 32
"""Lines that a batch starts before the first of them is submitted."""
API_SECONDS = 0.08
STORE_SECONDS = (1.0, 3.0)
RATE = DEFAULT_REQUESTS_PER_SECOND
SAMPLE_SECONDS = 0.01
log = logging.getLogger(__name__)


class Hook:
    """Fake MPS hook that accepts every text."""

    mps_conn_id = "mps_default"

    async def aget_conn(self) -> Any:
        """Return a client that needs no refresh."""
        return SimpleNamespace(
            credential=SimpleNamespace(refresh=_nothing),
            connection=SimpleNamespace(region="ap-singapore", requests_per_second=RATE),
        )

    async def acall_once(self, _call: Any, *_: Any) -> SubmitResult:
        """Accept the text."""
        await asyncio.sleep(API_SECONDS)
        return SubmitResult("task", "request")


class Storage:
    """
    Fake storage that sleeps for each write, and counts the lines at risk when it ends.

    :param seconds: duration of a write
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.writes = 0
        self.at_risk: set[str] = set()

    async def write(self, rows: bytes) -> None:
        """Write rows as one object."""
        self.writes += 1
        await asyncio.sleep(self._seconds)
        for row in map(json.loads, rows.splitlines()):
            if row["status"] == LineStatus.SUBMITTING:
                self.at_risk.add(row["id"])
            else:
                self.at_risk.discard(row["id"])


def shared_writes(storage: Storage) -> Callable[[Row], Awaitable[None]]:
    """Return the batch's way to record a row: rows share writes, and only some of them start one at once."""
    write_ahead_log = WriteAheadLog(ObjectStoragePath("memory://benchmark/journal"), "writer", log)
    write_ahead_log._append = storage.write  # type: ignore[method-assign]
    state = SimpleNamespace(row_store=RowStore(), _write_ahead_log=write_ahead_log)
    return partial(BatchState.record, state)  # type: ignore[arg-type]


def single_writes(storage: Storage) -> Callable[[Row], Awaitable[None]]:
    """Return the simplest way to record a row: one write after another, one row each."""
    writing = asyncio.Lock()

    async def write(row: Row) -> None:
        async with writing:
            await storage.write(json.dumps(row.to_json()).encode())

    return write


async def measure(storage: Storage, record: Callable[[Row], Awaitable[None]]) -> tuple[float, int, float, float]:
    """Return the mean and greatest number of lines at risk, lines per second, and writes per line."""
    state = SimpleNamespace(record=record, record_in_memory=lambda _: None)
    submitter = Submitter(Hook(), state, _nothing, OnUnknown.FAIL, log)  # type: ignore[arg-type]
    loop, ahead, samples = asyncio.get_running_loop(), asyncio.Semaphore(READ_AHEAD), []
    started = ended = loop.time()

    async def sample() -> None:
        while True:
            samples.append(len(storage.at_risk))
            await asyncio.sleep(SAMPLE_SECONDS)

    async def run_line(number: int) -> None:
        nonlocal ended
        try:
            row = await submitter.submit(SpeechRequest("text", "voice"), Row(f"{number}", number, LineStatus.PENDING))
        finally:
            ahead.release()
        ended = loop.time()
        await asyncio.sleep(random.uniform(*STORE_SECONDS))
        await record(row.with_status(LineStatus.STORED))

    sampling = asyncio.create_task(sample())
    async with asyncio.TaskGroup() as lines:
        for number in range(LINES):
            await ahead.acquire()
            lines.create_task(run_line(number))
    sampling.cancel()
    samples = samples[: int((ended - started) / SAMPLE_SECONDS)]
    return sum(samples) / len(samples), max(samples), LINES / (ended - started), storage.writes / LINES


async def _nothing() -> None:
    """Do nothing, at once."""


async def main() -> None:
    """Print a row for each log and each duration of a write."""
    attach("memory", fs=fsspec.filesystem("memory"))
    print(f"{LINES} lines at {RATE:g} submits per second, MPS responds after {API_SECONDS * 1000:g} ms:\n")
    print("| Duration of a write | Log | Lines at risk: mean (most) | Lines per second | Writes per line |")
    print("|---|---|---|---|---|")
    for seconds in (0.01, 0.05, 0.1, 0.2):
        for name, make_record in (("Shared writes", shared_writes), ("One row per write", single_writes)):
            storage = Storage(seconds)
            mean, most, rate, writes = await measure(storage, make_record(storage))
            print(f"| {seconds * 1000:g} ms | {name} | {mean:.1f} ({most}) | {rate:.1f} | {writes:.2f} |", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
