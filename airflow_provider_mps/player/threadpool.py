"""Run slow work of the Listen view in a few threads of its own, with a timeout."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from anyio import CapacityLimiter, fail_after
from anyio.to_thread import run_sync

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

T = TypeVar("T")

TIMEOUT_SECONDS = 20.0
"""For one response of the storage."""
_THREADS = CapacityLimiter(8)
"""Separate from the 40 threads of other routes: storage that does not respond must not block those."""


async def run_in_limited_thread(work: Callable[[], T], seconds: float = TIMEOUT_SECONDS) -> T:
    """
    Run a function in one of the threads, and return its result.

    :param seconds: timeout, including the wait for a free thread
    :raises TimeoutError: if it takes longer; the thread is abandoned
    """
    with fail_after(seconds):
        return await run_sync(work, abandon_on_cancel=True, limiter=_THREADS)


async def iterate_in_threads(blocks: Iterator[T]) -> AsyncIterator[T]:
    """Iterate in the threads."""
    end = object()
    while (block := await run_in_limited_thread(lambda: next(blocks, end))) is not end:
        yield block  # type: ignore[misc]
