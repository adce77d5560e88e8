import asyncio
import threading

import pytest
from anyio import CapacityLimiter

from airflow_provider_mps.player import threadpool
from airflow_provider_mps.player.threadpool import iterate_in_threads, run_in_limited_thread


def test_limited_thread_returns_result_and_raises_error():
    assert asyncio.run(run_in_limited_thread(lambda: 1)) == 1
    with pytest.raises(KeyError):
        asyncio.run(run_in_limited_thread(lambda: {}["x"]))


def test_limited_thread_is_another_thread():
    assert asyncio.run(run_in_limited_thread(threading.get_ident)) != threading.get_ident()


def test_thread_that_exceeds_the_timeout_is_abandoned():
    released, ended = threading.Event(), []

    async def ask():
        with pytest.raises(TimeoutError):
            await run_in_limited_thread(lambda: ended.append(released.wait(60)), 0.05)
        assert ended == []
        released.set()

    asyncio.run(ask())


def test_number_of_threads_is_limited(monkeypatch):
    limiter = CapacityLimiter(2)
    monkeypatch.setattr(threadpool, "_THREADS", limiter)
    at_once, most, lock, released = 0, 0, threading.Lock(), threading.Event()

    def work():
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        released.wait(60)
        with lock:
            at_once -= 1

    async def ask():
        tasks = [asyncio.create_task(run_in_limited_thread(work, 60)) for _ in range(6)]
        async with asyncio.timeout(30):
            while at_once < 2 or limiter.statistics().tasks_waiting < 4:
                await asyncio.sleep(0.01)
        released.set()
        await asyncio.gather(*tasks)

    asyncio.run(ask())
    assert most == 2


def test_iteration_in_threads_keeps_order():
    async def collect():
        return [block async for block in iterate_in_threads(iter([b"a", b"", b"b"]))]

    assert asyncio.run(collect()) == [b"a", b"", b"b"]
