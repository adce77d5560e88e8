"""What may hang, done in a thread of its own, and waited for only as long as it is wanted."""

from __future__ import annotations

import queue
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar, cast

from airflow_provider_mps.own_thread import start_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LOOK = 0.5
"""Seconds after which whoever waits looks whether it is still wanted."""


def waited_for(function: Callable[[], T], still_wanted: Callable[[], None]) -> T:
    """
    Do what may hang.

    :param function: called in a new thread, which is left behind where it is not wanted any more
    :param still_wanted: called now and then; raises when the time is up
    :return: what the function returns, or raises
    """
    # This kind of queue outlives a signal's handler that raises, which those with a limit, and Thread.join, do not.
    ended: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            ended.put((function(), None))
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            ended.put((None, error))

    start_daemon_thread(run, "mps-waited-for")
    while True:
        with suppress(queue.Empty):
            result, error = ended.get(timeout=LOOK)
            break
        still_wanted()
    if error is not None:
        raise error
    return cast("T", result)
