"""What waiting outlives, with many tasks in one process and over real HTTP."""

from __future__ import annotations

import asyncio
import time

import pytest

from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.intervals import PollInterval
from airflow_provider_mps.text_to_speech import TaskStatus
from airflow_provider_mps.triggers.poller import wait_for_task
from tests import faulty_emulator
from tests.faulty_emulator import FaultyEmulator
from tests.gate import Gate

DOWN = 20
"""Seconds."""


@pytest.fixture
def app(start_emulator):
    app = FaultyEmulator(Options(synthesis_time=1, rate_limit=1000, voice="tone"))
    app.emulator = start_emulator(app)
    return app


def submit(count):
    hook = MpsHook()
    return [hook.submit_text_to_speech(f"hello {number}", "voice") for number in range(count)]


async def wait_all(task_ids):
    async with asyncio.timeout(120):
        return await asyncio.gather(*(wait_for_task(task_id, PollInterval(1)) for task_id in task_ids))


def test_an_api_that_is_down_for_twenty_seconds_fails_nobody(app, connect):
    task_ids = submit(30)

    async def with_an_interruption():
        waits = asyncio.create_task(wait_all(task_ids))
        await asyncio.sleep(0.3)
        gate.shut()
        await asyncio.sleep(DOWN)
        assert not waits.done()
        gate.open()
        back = time.monotonic()
        tasks = await waits
        return tasks, time.monotonic() - back

    with Gate(app.emulator.port) as gate:
        connect(app.emulator.connection_uri.replace(f":{app.emulator.port}/", f":{gate.port}/"))
        tasks, noticed_after = asyncio.run(with_an_interruption())
    assert [task.task_id for task in tasks] == task_ids
    assert {task.status for task in tasks} == {TaskStatus.SUCCESS}
    assert noticed_after < 60  # a task is held back 30 seconds at most


def test_tasks_finish_although_every_second_answer_is_throttled(app):
    task_ids = submit(15)
    app.faults_of = lambda number: faulty_emulator.api_error("RequestLimitExceeded") if number % 2 else None
    tasks = asyncio.run(wait_all(task_ids))
    assert {task.status for task in tasks} == {TaskStatus.SUCCESS}
