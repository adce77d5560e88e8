"""An event loop whose clock jumps to the next timer, for tests of code that waits for seconds or minutes."""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections.abc import Coroutine
from typing import Any

THREAD_NAME = "mps-blocking-call"
REAL_LIMIT_SECONDS = 120.0
JOIN_SECONDS = 0.005


def run_in_simulated_time(main: Coroutine[Any, Any, Any]) -> Any:
    """
    Run a coroutine like :func:`asyncio.run`, with simulated time.

    Time stands still while a callback is ready and while a blocking call runs in a daemon thread. Otherwise it jumps to
    the next timer. Sleeping takes no time, and a busy machine cannot delay a timer.
    """
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._now = 1000.0
        self._others = set(threading.enumerate())
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds

    def find_blocking_call(self) -> threading.Thread | None:
        calls = (thread for thread in threading.enumerate() if thread.name == THREAD_NAME)
        return next((thread for thread in calls if thread not in self._others), None)


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: _Loop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        limit = time.monotonic() + REAL_LIMIT_SECONDS
        while thread := self._loop.find_blocking_call():
            if events := super().select(0):
                return events
            thread.join(JOIN_SECONDS)
            if time.monotonic() > limit:
                raise TimeoutError("a blocking call has not returned")
        # A call wakes the loop before its thread ends.
        if events := super().select(0):
            return events
        self._loop.advance(timeout)
        return []
