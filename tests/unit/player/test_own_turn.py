import asyncio
import threading
import time

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
    released = threading.Event()

    async def ask():
        with pytest.raises(TimeoutError):
            await in_turn(lambda: released.wait(10), 0.05)
        released.set()

    started = time.monotonic()
    asyncio.run(ask())
    assert time.monotonic() - started < 9


def test_no_more_than_a_few_are_at_it_at_once(monkeypatch):
    monkeypatch.setattr(own_turn, "_THREADS", CapacityLimiter(2))
    at_once, most = 0, 0

    def work():
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0.05)
        at_once -= 1

    async def ask():
        await asyncio.gather(*(in_turn(work) for _ in range(6)))

    asyncio.run(ask())
    assert most == 2


def test_blocks_come_in_their_order_and_all_of_them():
    async def collect():
        return [block async for block in one_by_one(iter([b"a", b"", b"b"]))]

    assert asyncio.run(collect()) == [b"a", b"", b"b"]
