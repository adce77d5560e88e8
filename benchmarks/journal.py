"""
What a slow destination costs a batch: lines at risk of ``unknown``, lines a second, and writes a line.

A batch writes down that it is about to submit a line, submits it, and writes down the outcome. A kill between those two
writes leaves the line ``unknown``. Measured with the batch's own submitter and journal, beside a journal that writes
each row by itself; MPS and the storage are sleeps. ``python -m benchmarks.journal``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import fsspec
from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow.sdk.io import attach

from airflow_provider_mps.api import Accepted
from airflow_provider_mps.batch.journal import Journal
from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.submitter import Submitter
from airflow_provider_mps.choice import OnUnknown
from airflow_provider_mps.speech_request import SpeechRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LINES = 300
READ_AHEAD = 32
"""Lines that a batch begins before the first of them is submitted."""
API_SECONDS = 0.08
STORED_AFTER_SECONDS = (1.0, 3.0)
RATE = 25.0
"""Submits a second."""
SAMPLE_SECONDS = 0.01
log = logging.getLogger(__name__)


class Hook:
    """MPS, which accepts every text."""

    async def aget_conn(self) -> Any:
        """Return a client that needs no refresh."""
        return SimpleNamespace(
            credential=SimpleNamespace(renew=_nothing), connection=SimpleNamespace(requests_per_second=RATE)
        )

    async def acall_once(self, _call: Any, *_: Any) -> Accepted:
        """Accept the text."""
        await asyncio.sleep(API_SECONDS)
        return Accepted("task", "request")


class Storage:
    """
    The destination: a write takes its time, and the lines at risk are counted when it ends.

    :param seconds: of a write
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
    """Return the batch's way to record a row: those that come during a write share the next one."""
    journal = Journal(ObjectStoragePath("memory://benchmark/journal"), "writer", log)
    journal._append = storage.write  # type: ignore[method-assign]
    return journal.write


def single_writes(storage: Storage) -> Callable[[Row], Awaitable[None]]:
    """Return the simplest way to record a row: one write after another, one row each."""
    writing = asyncio.Lock()

    async def write(row: Row) -> None:
        async with writing:
            await storage.write(json.dumps(row.to_json()).encode())

    return write


async def measure(storage: Storage, record: Callable[[Row], Awaitable[None]]) -> tuple[float, int, float, float]:
    """Return the mean and greatest number of lines at risk, lines a second, and writes a line."""
    books = SimpleNamespace(record=record, note=lambda _: None)
    submitter = Submitter(Hook(), books, _nothing, OnUnknown.FAIL, log)  # type: ignore[arg-type]
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
        await asyncio.sleep(random.uniform(*STORED_AFTER_SECONDS))
        await record(row.now(LineStatus.STORED))

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
    """Print a row for each journal and each duration of a write."""
    attach("memory", fs=fsspec.filesystem("memory"))
    print(f"{LINES} lines at {RATE:g} submits a second, {API_SECONDS * 1000:g} ms of MPS:\n")
    print("| a write takes | journal | lines at risk, mean | at most | lines/s | writes a line |")
    print("|---|---|---|---|---|---|")
    for seconds in (0.01, 0.05, 0.1, 0.2):
        for name, journal in (("shared writes", shared_writes), ("one row a write", single_writes)):
            storage = Storage(seconds)
            mean, most, rate, writes = await measure(storage, journal(storage))
            print(f"| {seconds * 1000:g} ms | {name} | {mean:.1f} | {most} | {rate:.1f} | {writes:.2f} |", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
