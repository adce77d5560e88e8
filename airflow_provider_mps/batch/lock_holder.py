"""Identify the task that holds the lock of a destination, and time leases across suspensions of the machine."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.durable.record import format_utc_now, get_max_tries

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.providers.common.compat.sdk import Context


DEFERRED_LOCK_SECONDS = 300.0
"""Validity of the lock of a deferred batch, unless its trigger renews it."""


class Phase(StrEnum):
    """What the holder of a lock is doing."""

    RUNNING = "running"
    DEFERRED = "deferred"
    """The batch waits in the triggerer, which renews ``expires_at``."""


@dataclass(frozen=True)
class LockHolder:
    """The task that holds a lock, as it is written in the lock."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    try_number: int = 0
    max_tries: int = 0
    """``max_tries`` of the task instance; a clear raises it, a retry does not."""
    since: str = field(default_factory=format_utc_now)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    beat: int = 0
    phase: Phase = Phase.RUNNING
    expires_at: float | None = None
    """When another batch may take over a deferred lock, in seconds since 1970. Version 1.0 did not set it."""

    @property
    def has_expired(self) -> bool:
        """Whether a deferred batch's trigger has not renewed the lock in time."""
        return self.phase is Phase.DEFERRED and self.expires_at is not None and time.time() > self.expires_at

    def is_unchanged(self, current: LockHolder | None) -> bool:
        """Return whether a later reading shows the same holder, without a heartbeat in between."""
        names = ("token", "beat", "phase")
        return current is not None and all(getattr(current, name) == getattr(self, name) for name in names)

    def as_deferred(self) -> LockHolder:
        """Return a copy that is deferred, and valid from now on."""
        return replace(self, beat=self.beat + 1, phase=Phase.DEFERRED, expires_at=time.time() + DEFERRED_LOCK_SECONDS)

    @classmethod
    def from_context(cls, context: Context) -> LockHolder:
        """Return the holder for the task that runs with this context."""
        instance = context.get("ti")
        map_index = getattr(instance, "map_index", None)
        return cls(
            dag_id=str(getattr(instance, "dag_id", "unknown")),
            run_id=str(getattr(instance, "run_id", "unknown")),
            task_id=str(getattr(instance, "task_id", "unknown")),
            map_index=-1 if map_index is None else int(map_index),
            try_number=int(getattr(instance, "try_number", 0) or 0),
            max_tries=get_max_tries(context),
        )

    @property
    def instance(self) -> tuple[str, str, str, int]:
        """The task instance, the same for all its attempts."""
        return (self.dag_id, self.run_id, self.task_id, self.map_index)

    @property
    def description(self) -> str:
        """The task instance, its attempt and its phase, for logs and errors."""
        index = f" [{self.map_index}]" if self.map_index >= 0 else ""
        return (
            f"task '{self.task_id}'{index} of DAG '{self.dag_id}', run '{self.run_id}' (try {self.try_number}, "
            f"{self.phase.value} since {self.since})"
        )

    @classmethod
    def parse(cls, content: bytes) -> LockHolder | None:
        """Parse the content of a lock; return ``None`` if it is not valid."""
        try:
            lock = json.loads(content)
            values: dict[str, Any] = {
                name: str(lock[name]) for name in ("dag_id", "run_id", "task_id", "since", "token")
            }
            values |= {name: int(lock[name]) for name in ("map_index", "try_number", "max_tries", "beat")}
            values["phase"] = Phase(lock["phase"])
            values["expires_at"] = None if lock.get("expires_at") is None else float(lock["expires_at"])
            return cls(**values)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None

    def to_bytes(self) -> bytes:
        """Return the content of the lock, as JSON."""
        return json.dumps(asdict(self)).encode()


SYSTEM_CLOCKS: tuple[Callable[[], float], ...] = (
    # Advances while a machine sleeps, but not while a virtual machine is frozen.
    *((partial(time.clock_gettime, time.CLOCK_BOOTTIME),) if hasattr(time, "CLOCK_BOOTTIME") else ()),
    # Jumps ahead after a virtual machine has resumed, as soon as its host or NTP has set it.
    time.time,
)
"""Clocks that may count a suspension; the monotonic clock of an event loop does not."""


class SuspensionAwareTimer:
    """
    Measure the time since its creation on several clocks, and report the longest.

    A clock that stands still, or is set back, does not extend a lease. A clock that is set ahead makes a lease look
    older than it is, until its next heartbeat.
    """

    def __init__(self) -> None:
        self._started = _read_clocks()

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since the timer was created."""
        return max(now - started for now, started in zip(_read_clocks(), self._started, strict=True))


def _read_clocks() -> list[float]:
    return [asyncio.get_running_loop().time(), *(clock() for clock in SYSTEM_CLOCKS)]
