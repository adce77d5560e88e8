"""What blocks, done beside an event loop and beside the threads that everything else in it shares."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def in_own_thread(function: Callable[[], T]) -> asyncio.Future[T]:
    """
    Do what blocks without the executor that everything else in the event loop shares, and which its end waits for.

    :param function: called in a new thread
    :return: its result, or what it raised
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(cast("T", result))
        else:
            future.set_exception(error)
            future.exception()  # so that nobody complains where everybody has left

    def run() -> None:
        result, error = None, None
        try:
            result = function()
        except Exception as caught:  # noqa: BLE001 - it is raised where the result is awaited
            error = caught
        with suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=run, name="mps-blocking-call", daemon=True).start()
    return future


def start_daemon_thread(function: Callable[[], None], name: str) -> threading.Thread:
    """
    Start a daemon thread whose log lines go where the caller's do.

    If a signal's handler raises within ``Thread.start``, Python may raise ``RuntimeError`` ("release unlocked lock") or
    ``KeyError`` in its place. This function raises the handler's exception.

    :param function: called in the thread
    :param name: of the thread
    """
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(function,), name=name, daemon=True)
    handled = sys.exception()  # which is the context of every error raised here
    try:
        thread.start()
    except (RuntimeError, KeyError) as error:
        if error.__context__ in {None, handled}:
            raise
        raise error.__context__ from None
    return thread
