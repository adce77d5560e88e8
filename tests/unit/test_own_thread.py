import asyncio
import threading

import pytest

from airflow_provider_mps.own_thread import in_own_thread, start_daemon_thread


def test_it_returns_what_the_function_returns():
    async def use():
        return await in_own_thread(lambda: threading.current_thread().name)

    assert asyncio.run(use()) == "mps-blocking-call"


def test_it_raises_what_the_function_raises():
    async def use():
        return await in_own_thread(lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(use())


def test_it_takes_no_thread_from_the_executor_that_everybody_shares():
    blocked = threading.Event()

    async def use():
        waiting = [in_own_thread(lambda: blocked.wait(20)) for _ in range(50)]
        async with asyncio.timeout(15):
            await asyncio.to_thread(blocked.set)
        return await asyncio.gather(*waiting)

    assert asyncio.run(use()) == [True] * 50


def test_the_end_of_the_loop_does_not_wait_for_it():
    blocked, ended = threading.Event(), []

    async def use():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await in_own_thread(lambda: ended.append(blocked.wait(60)))

    asyncio.run(use())
    assert ended == []
    blocked.set()


def raise_while_lock_is_taken_back(_):
    try:
        raise TimeoutError("time is up")
    finally:
        threading.Lock().release()


def raise_once_thread_runs(thread):
    try:
        raise TimeoutError("time is up")  # noqa: TRY301 - as in Thread.start
    except Exception:
        del {}[thread]  # the thread itself has done so before
        raise


# Two moments at which Thread.start hides what a signal's handler has raised.
@pytest.mark.parametrize("start", [raise_while_lock_is_taken_back, raise_once_thread_runs])
def test_an_interrupted_start_raises_what_the_signals_handler_raised(monkeypatch, start):
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(TimeoutError, match="time is up"):
        start_daemon_thread(lambda: None, "interrupted")


def test_a_thread_that_cannot_start_raises_its_own_error(monkeypatch):
    def start(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        start_daemon_thread(lambda: None, "one too many")
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            start_daemon_thread(lambda: None, "one too many")
