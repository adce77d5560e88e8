import asyncio
import threading

import pytest

from airflow_provider_mps.concurrency import run_in_daemon_thread, start_daemon_thread


def test_run_in_daemon_thread_returns_result():
    async def main():
        return await run_in_daemon_thread(lambda: threading.current_thread().name)

    assert asyncio.run(main()) == "mps-blocking-call"


def test_run_in_daemon_thread_raises_error():
    async def main():
        return await run_in_daemon_thread(lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())


def test_run_in_daemon_thread_leaves_default_executor_free():
    blocked = threading.Event()

    async def main():
        waiting = [run_in_daemon_thread(lambda: blocked.wait(20)) for _ in range(50)]
        async with asyncio.timeout(15):
            await asyncio.to_thread(blocked.set)
        return await asyncio.gather(*waiting)

    assert asyncio.run(main()) == [True] * 50


def test_end_of_loop_does_not_wait_for_daemon_thread():
    blocked, ended = threading.Event(), []

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await run_in_daemon_thread(lambda: ended.append(blocked.wait(60)))

    asyncio.run(main())
    assert ended == []
    blocked.set()


def raise_while_lock_is_reacquired(_):
    try:
        raise TimeoutError("deadline")
    finally:
        threading.Lock().release()


def raise_after_thread_has_started(thread):
    try:
        raise TimeoutError("deadline")  # noqa: TRY301 - as in Thread.start
    except Exception:
        del {}[thread]  # the thread has deleted itself
        raise


# Two moments at which Thread.start replaces the exception of a signal handler.
@pytest.mark.parametrize("start", [raise_while_lock_is_reacquired, raise_after_thread_has_started])
def test_start_daemon_thread_raises_error_of_signal_handler(monkeypatch, start):
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(TimeoutError, match="deadline"):
        start_daemon_thread(lambda: None, "interrupted")


def test_start_daemon_thread_raises_its_own_error(monkeypatch):
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
