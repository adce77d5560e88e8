"""What the tests of the poll loop share: how they wait, and for what."""

import asyncio
import json

from airflow_provider_mps.intervals import PollInterval
from airflow_provider_mps.triggers import poller
from airflow_provider_mps.triggers.poller import wait_for_task
from tests.scripted_server import json_reply

SUCCESS = json_reply({"Response": {"Status": "success", "VoiceId": "v", "RequestId": "req-1"}})
FAST = PollInterval(0.05)


async def wait_all(*task_ids, interval=FAST, **arguments):
    """Wait for all of them, and return what came of each: a task or an error."""
    waits = (wait_for_task(task_id, interval, **arguments) for task_id in task_ids)
    async with asyncio.timeout(60):
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
    assert_nothing_runs()
    return outcomes


async def wait_until(condition, *task_ids):
    """Wait for all of them until a condition holds, and leave."""
    waits = [asyncio.create_task(wait_for_task(task_id, FAST)) for task_id in task_ids]
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)
    for wait in waits:
        wait.cancel()
    await asyncio.wait(waits)


def assert_nothing_runs():
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not poller._pollers_of(asyncio.get_running_loop())._pollers


def task_of(request):
    return json.loads(request.body)["TaskId"]


def names(count):
    return [f"task-{number}" for number in range(count)]


def most_in_a_second(moments):
    return max(sum(start <= moment < start + 1 for moment in moments) for start in moments)
