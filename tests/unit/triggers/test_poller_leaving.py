"""The shared poll loop: coming, leaving, and what is left behind."""

import asyncio
import gc
import threading

from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.text_to_speech import TaskStatus
from airflow_provider_mps.triggers import poller
from airflow_provider_mps.triggers.poller import wait_for_task
from tests.answers import PROCESSING
from tests.scripted_server import HANG, ScriptedServer
from tests.waiting import FAST, SUCCESS, assert_nothing_runs, names, wait_all


def test_who_is_cancelled_leaves_at_once_and_the_others_wait_on(connect):
    left, answered = threading.Event(), []

    def hold(_):
        answered.append(left.wait(60))
        return HANG

    with ScriptedServer(hold, PROCESSING) as server:
        connect(server.connection_uri("timeout=60"))

        async def cancel_one():
            waits = [asyncio.create_task(wait_for_task(name, FAST)) for name in names(2)]
            while len(server.requests) < 3:
                await asyncio.sleep(0.01)
            waits[0].cancel()
            await asyncio.wait([waits[0]])
            assert answered == []
            left.set()
            server.script[:] = [SUCCESS]
            task = await waits[1]
            assert_nothing_runs()
            return task

        assert asyncio.run(cancel_one()).task_id == "task-1"


def test_the_last_one_to_leave_closes_the_client(connect, monkeypatch):
    hooks, close = [], MpsHook.aclose

    async def closed(hook):
        hooks.append(await hook.aget_conn())
        await close(hook)

    monkeypatch.setattr(MpsHook, "aclose", closed)
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())

        async def leave_one_by_one():
            waits = [asyncio.create_task(wait_for_task(name, FAST)) for name in names(3)]
            while len(server.requests) < 3:
                await asyncio.sleep(0.01)
            for wait in waits:
                assert hooks == []
                wait.cancel()
                await asyncio.wait([wait])
            assert_nothing_runs()

        asyncio.run(leave_one_by_one())
    assert [client.http_client.is_closed for client in hooks] == [True]


def test_a_second_event_loop_works_and_nothing_of_the_first_is_kept(submit):
    _, task_ids = submit(3, rate_limit=1000)
    gc.collect()
    before = len(poller._POLLERS)  # of other tests, in other threads
    for _ in range(3):
        outcomes = asyncio.run(wait_all(*task_ids))
        assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    del outcomes
    gc.collect()
    assert len(poller._POLLERS) <= before + 1  # asgiref keeps hold of the last event loop


def test_event_loops_in_two_threads_do_not_meet(submit):
    _, task_ids = submit(10, synthesis_time=1, rate_limit=1000)
    outcomes = []
    threads = [
        threading.Thread(target=lambda half=half: outcomes.extend(asyncio.run(wait_all(*half))))
        for half in (task_ids[:5], task_ids[5:])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(task.task_id for task in outcomes) == sorted(task_ids)


def test_an_event_loop_that_is_shut_down_leaves_nobody_waiting(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())

        async def main():
            waits = [asyncio.create_task(wait_for_task(name, FAST)) for name in names(3)]
            while not server.requests:
                await asyncio.sleep(0.01)
            return waits

        assert all(wait.cancelled() for wait in asyncio.run(main()))


def test_who_has_left_is_not_remembered(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())

        async def come_and_go():
            stays = asyncio.create_task(wait_for_task("task-0", FAST))
            waits = [asyncio.create_task(wait_for_task("task-1", FAST, first_poll_in=3600)) for _ in range(1000)]
            while not server.requests:
                await asyncio.sleep(0.01)
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)
            (running,) = poller._pollers_of(asyncio.get_running_loop())._pollers.values()
            left = len(running._line)
            stays.cancel()
            await asyncio.wait([stays])
            return left

        assert asyncio.run(come_and_go()) <= poller.LEFT_OVER + 2
