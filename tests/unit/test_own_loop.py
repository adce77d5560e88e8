import asyncio
import signal
import threading
from concurrent.futures import CancelledError
from contextvars import ContextVar

import pytest

from airflow_provider_mps.own_loop import OwnLoop

variable = ContextVar("variable", default="unset")


def test_what_it_returns_is_returned():
    async def main():
        await asyncio.sleep(0)
        return threading.current_thread() is not threading.main_thread()

    assert OwnLoop(main).run()


def test_what_it_raises_is_raised():
    async def main():
        raise ValueError("from the loop")

    with pytest.raises(ValueError, match="from the loop"):
        OwnLoop(main).run()


def test_it_runs_in_the_context_of_who_waits():
    variable.set("of the caller")

    async def main():
        return variable.get()

    assert OwnLoop(main).run() == "of the caller"


def test_a_signal_that_raises_cancels_it_and_lets_it_clear_up():
    cleared = []

    async def main():
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            cleared.append(True)

    def handler(*_):
        raise TimeoutError("of Airflow")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(TimeoutError, match="of Airflow"):
            OwnLoop(main).run()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert cleared == [True]


def test_stopping_cancels_it():
    started = threading.Event()

    async def main():
        started.set()
        await asyncio.Event().wait()

    loop = OwnLoop(main)
    threading.Thread(target=lambda: started.wait(60) and loop.stop(), daemon=True).start()
    with pytest.raises(CancelledError):
        loop.run()


def test_stopping_before_it_runs_is_heeded_and_after_it_ran_is_nothing():
    loop = OwnLoop(lambda: asyncio.sleep(60))
    loop.stop()
    with pytest.raises(CancelledError):
        loop.run()
    loop.stop()


def test_second_stop_does_not_cancel_the_cleaning_up():
    started, cleaning, cleaned = threading.Event(), threading.Event(), []

    async def main():
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await asyncio.sleep(0.05)
            cleaned.append(True)

    loop = OwnLoop(main)

    def stop_twice():
        started.wait(60)
        loop.stop()
        cleaning.wait(60)
        loop.stop()

    threading.Thread(target=stop_twice, daemon=True).start()
    with pytest.raises(CancelledError):
        loop.run()
    assert cleaned == [True]
