"""The poll loop during an outage and under throttling, with many tasks over HTTP."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.exceptions import MpsApiError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.polling.intervals import PollInterval
from airflow_provider_mps.polling.poller import wait_for_task
from airflow_provider_mps.speech.task import TaskStatus
from tests import faulty_emulator
from tests.faulty_emulator import FaultyEmulator
from tests.gate import Gate

HOOK_ATTEMPTS = 4
"""Attempts of the hook before it raises."""


@pytest.fixture
def start_app(start_emulator):
    def start(synthesis_time):
        app = FaultyEmulator(Options(synthesis_time=synthesis_time, rate_limit=1000, voice="tone"))
        app.emulator = start_emulator(app)
        return app

    return start


@pytest.fixture
def failures(monkeypatch):
    """Count the failed requests for each task."""
    counts, call = Counter(), MpsHook.acall_once

    async def acall_once(hook, described):
        try:
            return await call(hook, described)
        except MpsApiError:
            counts[described.params["TaskId"]] += 1
            raise

    monkeypatch.setattr(MpsHook, "acall_once", acall_once)
    return counts


@pytest.fixture
def backoffs(monkeypatch):
    """Collect the backoff delays, with a tenth of the jitter to keep the test short."""
    seconds, delay_after_errors = [], PollInterval.delay_after_errors

    def note(interval, errors, chance):
        assert delay_after_errors(interval, errors, chance) <= 30
        seconds.append(delay_after_errors(interval, errors, chance / 10))
        return seconds[-1]

    monkeypatch.setattr(PollInterval, "delay_after_errors", note)
    return seconds


def submit(count):
    hook = MpsHook()
    return [hook.submit_text_to_speech(f"hello {number}", "voice") for number in range(count)]


async def wait_all(task_ids):
    async with asyncio.timeout(200):
        return await asyncio.gather(*(wait_for_task(task_id, PollInterval(1)) for task_id in task_ids))


@pytest.mark.slow
def test_poller_outage_beyond_hook_retries_fails_no_wait(start_app, connect, failures, backoffs):
    app = start_app(synthesis_time=600)
    task_ids = submit(30)

    async def wait_while(condition):
        async with asyncio.timeout(100):
            while condition():
                await asyncio.sleep(0.01)

    async def wait_through_outage():
        waits = asyncio.create_task(wait_all(task_ids))
        await wait_while(lambda: len(app.asked_for) < len(task_ids))
        gate.shut()
        failures.clear()
        # Until the polls of each task have failed more often than the hook retries.
        await wait_while(lambda: min(failures[task_id] for task_id in task_ids) <= HOOK_ATTEMPTS)
        assert not waits.done()
        app.finish_all_tasks()
        gate.open()
        return await waits

    with Gate(app.emulator.port) as gate:
        uri = app.emulator.connection_uri.replace(f":{app.emulator.port}/", f":{gate.port}/")
        connect(f"{uri}&requests_per_second=100")
        tasks = asyncio.run(wait_through_outage())
    assert [task.task_id for task in tasks] == task_ids
    assert {task.status for task in tasks} == {TaskStatus.SUCCESS}
    assert len(backoffs) >= len(task_ids) * HOOK_ATTEMPTS
    assert max(backoffs) <= 30


def test_poller_every_second_response_throttled_all_finish(start_app, connect):
    app = start_app(synthesis_time=1)
    task_ids = submit(15)
    connect(f"{app.emulator.connection_uri}&requests_per_second=50")
    app.faults_of = lambda number: faulty_emulator.make_api_error("RequestLimitExceeded") if number % 2 else None
    tasks = asyncio.run(wait_all(task_ids))
    assert {task.status for task in tasks} == {TaskStatus.SUCCESS}
