"""What awaits, done by a worker: in a thread of its own, so that a signal ends it in good order."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import TYPE_CHECKING, Generic, TypeVar

from airflow_provider_mps.own_thread import start_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

T = TypeVar("T")

LOOK = 0.5
"""Seconds within which a signal is handled, whichever thread has caught it."""
PATIENCE = 4.0
"""Seconds that may be taken to clean up, by default: Airflow 3 kills a task five seconds after SIGTERM."""


class OwnLoop(Generic[T]):
    """
    Runs a coroutine in an event loop beside the thread that waits for it.

    Airflow's signals raise in the main thread, at any line: there they would leave an event loop in pieces.

    :param main: makes the coroutine, in its event loop
    :param grace: seconds that it may take to clean up, where an exception ends the waiting for it
    """

    def __init__(self, main: Callable[[], Coroutine[Any, Any, T]], grace: float = PATIENCE) -> None:
        self._main = main
        self._grace = grace
        self._done: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[T]] | None = None
        self._stopped = False

    def run(self) -> T:
        """
        Return what it returns; where an exception comes up here meanwhile, it is cancelled first.

        :raises concurrent.futures.CancelledError: when :meth:`stop` has been called
        """
        try:
            # A daemon, so that what hangs does not keep the process.
            start_daemon_thread(self._run, "mps-event-loop")
            # Again and again: a signal that another thread has caught is handled when this one wakes.
            while not concurrent.futures.wait([self._done], LOOK).done:
                pass
            return self._done.result()
        except BaseException:
            self.stop()
            concurrent.futures.wait([self._done], self._grace)
            raise

    def stop(self) -> None:
        """
        Cancel it; may be called by a signal's handler, and before it has begun.

        Only once: Airflow may pass a signal on that the task has got itself, and what cleans up must not be cancelled.
        """
        if self._stopped:
            return
        self._stopped = True
        if self._running is not None and not self._done.done():
            loop, task = self._running
            try:
                loop.call_soon_threadsafe(task.cancel)
            except RuntimeError:  # it has ended meanwhile
                return

    def _run(self) -> None:
        try:
            result = asyncio.run(self._start())
        except asyncio.CancelledError:
            self._done.set_exception(concurrent.futures.CancelledError())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
            self._done.set_exception(error)
        else:
            self._done.set_result(result)

    async def _start(self) -> T:
        task = asyncio.ensure_future(self._main())
        self._running = (asyncio.get_running_loop(), task)
        if self._stopped:
            task.cancel()
        return await task
