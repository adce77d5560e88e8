"""Run blocking calls and event loops in daemon threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import os
import queue
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

T = TypeVar("T")
_Job: TypeAlias = "tuple[contextvars.Context, Callable[[], None], str]"
"""The context, the function, and the name of the thread while it runs."""

SIGNAL_CHECK_SECONDS = 0.5
"""Interval at which a waiting main thread wakes, so that Python runs the handler of a pending signal."""
SHUTDOWN_GRACE_SECONDS = 4.0
"""Default time for cleaning up: Airflow 3 kills a task five seconds after SIGTERM."""


def start_daemon_thread(function: Callable[[], None], name: str) -> None:
    """
    Start a daemon thread in a copy of the caller's context, so that its log lines go to the same log.

    If a signal handler raises within ``Thread.start``, Python may raise ``RuntimeError`` ("release unlocked lock") or
    ``KeyError`` in its place. This function raises the handler's exception.
    """
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(function,), name=name, daemon=True)
    handled = sys.exception()  # the __context__ of every error raised here
    try:
        thread.start()
    except (RuntimeError, KeyError) as error:
        if error.__context__ in {None, handled}:
            raise
        raise error.__context__ from None


_idle_workers: list[queue.SimpleQueue[_Job]] = []
"""
The job queues of threads that wait for a job, as many as were ever busy at once. They live as long as the process. A
forked process does not have them.
"""
os.register_at_fork(after_in_child=_idle_workers.clear)


def start_in_worker_thread(function: Callable[[], None], name: str) -> None:
    """
    Do :func:`start_daemon_thread` in a thread that an earlier call has left idle, if there is one.

    Starting a thread takes longer, because the starting thread waits until it runs.

    :param function: handles its own exceptions
    """
    try:
        jobs = _idle_workers.pop()
    except IndexError:
        jobs = queue.SimpleQueue()
        # In an empty context, because the thread outlives its first job.
        contextvars.Context().run(start_daemon_thread, partial(_work, jobs), name)
    jobs.put((contextvars.copy_context(), function, name))


def _work(jobs: queue.SimpleQueue[_Job]) -> None:
    while True:
        context, function, threading.current_thread().name = jobs.get()
        context.run(function)
        del context, function  # or they would be kept until the next job
        _idle_workers.append(jobs)


def run_in_daemon_thread(function: Callable[[], T]) -> asyncio.Future[T]:
    """Run a blocking function outside the event loop's default executor, whose threads the end of the loop awaits."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def set_outcome(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(cast("T", result))
        else:
            future.set_exception(error)
            future.exception()  # or asyncio logs an error if the waiting coroutine has been cancelled

    def run() -> None:
        result, error = None, None
        try:
            result = function()
        except Exception as caught:  # noqa: BLE001 - raised where the result is awaited
            error = caught
        with suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(set_outcome, result, error)

    start_daemon_thread(run, "mps-blocking-call")
    return future


def call_interruptibly(function: Callable[[], T], check: Callable[[], None]) -> T:
    """
    Call a function that may hang, and abandon it if ``check`` raises.

    :param function: called in a daemon thread, which is left running if the call is abandoned
    :param check: called every half second; raises to abandon the call
    :return: the function's result, or its exception is raised
    """
    # After a signal handler has raised in get(), only this kind of queue still works; a bounded Queue does not.
    outcomes: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcomes.put((function(), None))
        except BaseException as error:  # noqa: BLE001 - raised in the waiting thread
            outcomes.put((None, error))

    start_in_worker_thread(run, "mps-interruptible-call")
    while True:
        with suppress(queue.Empty):
            result, error = outcomes.get(timeout=SIGNAL_CHECK_SECONDS)
            break
        check()
    if error is not None:
        raise error
    return cast("T", result)


class EventLoopThread(Generic[T]):
    """
    Run a coroutine in an event loop of a daemon thread while the calling thread waits for it.

    Airflow's signal handlers raise in the main thread, at any line; an event loop there could not clean up.

    :param main: returns the coroutine; called in the event loop
    :param grace: seconds that the coroutine may take to clean up after it has been cancelled
    """

    def __init__(self, main: Callable[[], Coroutine[Any, Any, T]], grace: float = SHUTDOWN_GRACE_SECONDS) -> None:
        self._main = main
        self._grace = grace
        self._outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[T]] | None = None
        self._stopped = False

    def run(self) -> T:
        """
        Return the coroutine's result; cancel it if an exception, e.g. of a signal handler, is raised in this thread.

        :raises concurrent.futures.CancelledError: if :meth:`stop` has been called
        """
        try:
            start_daemon_thread(self._run, "mps-event-loop")
            while not concurrent.futures.wait([self._outcome], SIGNAL_CHECK_SECONDS).done:
                pass
            return self._outcome.result()
        except BaseException:
            self.stop()
            concurrent.futures.wait([self._outcome], self._grace)
            raise

    def get_result(self) -> T | None:
        """Return the result of a coroutine that has ended without an error, although :meth:`run` may have raised."""
        if self._outcome.done() and self._outcome.exception() is None:
            return self._outcome.result()
        return None

    def stop(self) -> None:
        """
        Cancel the coroutine; can be called by a signal handler, and before :meth:`run`.

        Later calls do nothing: Airflow may forward a signal that the task has already received, and a second
        cancellation would interrupt the cleaning up.
        """
        if self._stopped:
            return
        self._stopped = True
        if self._running is not None and not self._outcome.done():
            loop, task = self._running
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(task.cancel)

    def _run(self) -> None:
        try:
            self._outcome.set_result(asyncio.run(self._start()))
        except asyncio.CancelledError:
            self._outcome.set_exception(concurrent.futures.CancelledError())
        except BaseException as error:  # noqa: BLE001 - raised in the waiting thread
            self._outcome.set_exception(error)

    async def _start(self) -> T:
        task = asyncio.ensure_future(self._main())
        self._running = (asyncio.get_running_loop(), task)
        if self._stopped:
            task.cancel()
        return await task
