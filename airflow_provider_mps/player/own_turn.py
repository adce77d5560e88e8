"""What may take long, beside Airflow's API server: in few threads, and for a limited time."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from anyio import CapacityLimiter, fail_after
from anyio.to_thread import run_sync

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

T = TypeVar("T")

TIMEOUT = 20.0
"""Seconds that a store may take for one answer."""
_THREADS = CapacityLimiter(8)
"""All of the server's other routes share forty others, and a store that does not answer would take them all."""


async def in_turn(work: Callable[[], T], seconds: float = TIMEOUT) -> T:
    """
    Return what ``work`` returns, which is done in another thread.

    :param seconds: that it may take, with those that it waits for its turn
    :raises TimeoutError: when it takes longer; the thread is left to itself until it ends
    """
    with fail_after(seconds):
        return await run_sync(work, abandon_on_cancel=True, limiter=_THREADS)


async def one_by_one(blocks: Iterator[T]) -> AsyncIterator[T]:
    """Return what an iterator does, each in its turn."""
    end = object()
    while (block := await in_turn(lambda: next(blocks, end))) is not end:
        yield block  # type: ignore[misc]
