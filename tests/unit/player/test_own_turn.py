import asyncio
import threading

import pytest
from anyio import CapacityLimiter

from airflow_provider_mps.player import own_turn
from airflow_provider_mps.player.own_turn import in_turn, one_by_one


def test_what_was_done_is_returned_and_what_went_wrong_is_raised():
    assert asyncio.run(in_turn(lambda: 1)) == 1
    with pytest.raises(KeyError):
        asyncio.run(in_turn(lambda: {}["x"]))


def test_it_is_done_in_another_thread():
    assert asyncio.run(in_turn(threading.get_ident)) != threading.get_ident()


def test_who_takes_too_long_is_left_to_himself():
    released, ended = threading.Event(), []

    async def ask():
        with pytest.raises(TimeoutError):
            await in_turn(lambda: ended.append(released.wait(60)), 0.05)
        assert ended == []
        released.set()

    asyncio.run(ask())


def test_no_more_than_a_few_are_at_it_at_once(monkeypatch):
    limiter = CapacityLimiter(2)
    monkeypatch.setattr(own_turn, "_THREADS", limiter)
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
        asking = [asyncio.create_task(in_turn(work, 60)) for _ in range(6)]
        async with asyncio.timeout(30):
            while at_once < 2 or limiter.statistics().tasks_waiting < 4:
                await asyncio.sleep(0.01)
        released.set()
        await asyncio.gather(*asking)

    asyncio.run(ask())
    assert most == 2


def test_blocks_come_in_their_order_and_all_of_them():
    async def collect():
        return [block async for block in one_by_one(iter([b"a", b"", b"b"]))]

    assert asyncio.run(collect()) == [b"a", b"", b"b"]
