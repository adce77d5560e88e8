import asyncio
import signal
import threading
from concurrent.futures import CancelledError
from contextvars import ContextVar

import pytest

from airflow_provider_mps.concurrency import EventLoopThread

variable = ContextVar("variable", default="unset")


def test_run_returns_result_of_coroutine():
    async def main():
        await asyncio.sleep(0)
        return threading.current_thread() is not threading.main_thread()

    assert EventLoopThread(main).run()


def test_run_raises_error_of_coroutine():
    async def main():
        raise ValueError("from the loop")

    with pytest.raises(ValueError, match="from the loop"):
        EventLoopThread(main).run()


def test_run_uses_context_of_caller():
    variable.set("of the caller")

    async def main():
        return variable.get()

    assert EventLoopThread(main).run() == "of the caller"


def test_run_raising_signal_cancels_and_waits_for_cleanup():
    cleaned = []

    async def main():
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            cleaned.append(True)

    def handler(*_):
        raise TimeoutError("from a signal")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(TimeoutError, match="from a signal"):
            EventLoopThread(main).run()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert cleaned == [True]


def test_stop_cancels_coroutine():
    started = threading.Event()

    async def main():
        started.set()
        await asyncio.Event().wait()

    loop = EventLoopThread(main)
    threading.Thread(target=lambda: started.wait(60) and loop.stop(), daemon=True).start()
    with pytest.raises(CancelledError):
        loop.run()


def test_stop_before_run_cancels_and_after_run_does_nothing():
    loop = EventLoopThread(lambda: asyncio.sleep(60))
    loop.stop()
    with pytest.raises(CancelledError):
        loop.run()
    loop.stop()


def test_second_stop_does_not_cancel_cleanup():
    started, cleaning, cleaned = threading.Event(), threading.Event(), []

    async def main():
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await asyncio.sleep(0.05)
            cleaned.append(True)

    loop = EventLoopThread(main)

    def stop_twice():
        started.wait(60)
        loop.stop()
        cleaning.wait(60)
        loop.stop()

    threading.Thread(target=stop_twice, daemon=True).start()
    with pytest.raises(CancelledError):
        loop.run()
    assert cleaned == [True]


def test_result_is_kept_when_a_signal_interrupted_the_caller():
    async def main():
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "finished"

    def handler(*_):
        raise TimeoutError("from a signal")

    loop = EventLoopThread(main)
    assert loop.get_result() is None
    before = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(TimeoutError, match="from a signal"):
            loop.run()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert loop.get_result() == "finished"
