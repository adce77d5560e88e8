"""The shared poll loop: adding and removing waiters, and what remains afterwards."""

import asyncio
import gc
import threading

from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.polling import poller
from airflow_provider_mps.polling.poll_queue import MAX_STALE_ENTRIES
from airflow_provider_mps.polling.poller import wait_for_task
from airflow_provider_mps.speech.task import TaskStatus
from tests.answers import PROCESSING
from tests.scripted_server import HANG, ScriptedServer
from tests.waiting import FAST, SUCCESS, assert_nothing_runs, names, wait_all


def test_wait_cancelled_leaves_at_once_others_continue(connect):
    left, released = threading.Event(), []

    def hold(_):
        released.append(left.wait(60))
        return HANG

    with ScriptedServer(hold, PROCESSING) as server:
        connect(server.connection_uri("timeout=60"))

        async def cancel_one():
            waits = [asyncio.create_task(wait_for_task(name, FAST)) for name in names(2)]
            while len(server.requests) < 3:
                await asyncio.sleep(0.01)
            waits[0].cancel()
            await asyncio.wait([waits[0]])
            assert released == []
            left.set()
            server.script[:] = [SUCCESS]
            task = await waits[1]
            assert_nothing_runs()
            return task

        assert asyncio.run(cancel_one()).task_id == "task-1"


def test_poller_last_waiter_removed_closes_client(connect, monkeypatch):
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


def test_poller_second_event_loop_keeps_nothing_of_first(submit):
    _, task_ids = submit(3, rate_limit=1000)
    gc.collect()
    before = len(poller._POLLERS)  # of other tests, in other threads
    for _ in range(3):
        outcomes = asyncio.run(wait_all(*task_ids))
        assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    del outcomes
    gc.collect()
    assert len(poller._POLLERS) <= before + 1  # asgiref keeps a reference to the last event loop


def test_poller_event_loops_in_two_threads_are_separate(submit):
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


def test_poller_event_loop_shutdown_cancels_waits(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())

        async def main():
            waits = [asyncio.create_task(wait_for_task(name, FAST)) for name in names(3)]
            while not server.requests:
                await asyncio.sleep(0.01)
            return waits

        assert all(wait.cancelled() for wait in asyncio.run(main()))


def test_poller_removed_waiters_leave_the_queue(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())

        async def add_and_remove():
            stays = asyncio.create_task(wait_for_task("task-0", FAST))
            waits = [asyncio.create_task(wait_for_task("task-1", FAST, first_poll_in=3600)) for _ in range(1000)]
            while not server.requests:
                await asyncio.sleep(0.01)
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)
            (running,) = poller._POLLERS[asyncio.get_running_loop()].values()
            left = len(running._queue)
            stays.cancel()
            await asyncio.wait([stays])
            return left

        assert asyncio.run(add_and_remove()) <= MAX_STALE_ENTRIES + 2
