"""Helpers for tests of the poll loop."""

import asyncio
import json

from airflow_provider_mps.polling import poller
from airflow_provider_mps.polling.intervals import PollInterval
from airflow_provider_mps.polling.poller import wait_for_task
from tests.scripted_server import make_json_reply

SUCCESS = make_json_reply({"Response": {"Status": "success", "VoiceId": "v", "RequestId": "req-1"}})
FAST = PollInterval(0.05)


async def wait_all(*task_ids, interval=FAST, **arguments):
    """Wait for all tasks, and return each outcome: a task or an error."""
    waits = (wait_for_task(task_id, interval, **arguments) for task_id in task_ids)
    async with asyncio.timeout(60):
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
    assert_nothing_runs()
    return outcomes


async def wait_until(condition, *task_ids):
    """Wait for all tasks until a condition holds, and cancel the waits."""
    waits = [asyncio.create_task(wait_for_task(task_id, FAST)) for task_id in task_ids]
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)
    for wait in waits:
        wait.cancel()
    await asyncio.wait(waits)


def assert_nothing_runs():
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not poller._POLLERS.get(asyncio.get_running_loop())


def task_of(request):
    return json.loads(request.body)["TaskId"]


def names(count):
    return [f"task-{number}" for number in range(count)]


def most_in_a_second(moments):
    return max(sum(start <= moment < start + 1 for moment in moments) for start in moments)
