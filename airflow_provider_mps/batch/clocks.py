"""Elapsed time that includes the time for which a machine was suspended."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def _boot_time() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


SYSTEM_CLOCKS: tuple[Callable[[], float], ...] = (
    # Stands still while a virtual machine is frozen; counts while a machine sleeps.
    *((_boot_time,) if hasattr(time, "CLOCK_BOOTTIME") else ()),
    # Jumps ahead when a virtual machine continues, as soon as its host or NTP has set it.
    time.time,
)
"""The clocks that may count a suspension, which the monotonic clock of an event loop does not."""


class Moment:
    """
    The present on the event loop's clock and on the system's, to be compared with later.

    The elapsed time is the longest that any of them counted. So a clock that stood still, or was set back, makes no
    lease last longer. One that was set ahead makes it seem older than it is, until its next heartbeat.
    """

    def __init__(self) -> None:
        self._at = _read_clocks()

    @property
    def elapsed(self) -> float:
        """The seconds since then."""
        return max(now - then for now, then in zip(_read_clocks(), self._at, strict=True))


def _read_clocks() -> list[float]:
    return [asyncio.get_running_loop().time(), *(clock() for clock in SYSTEM_CLOCKS)]
