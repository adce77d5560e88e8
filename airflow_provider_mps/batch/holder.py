"""The task that works in a destination, as the lock there names it."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from airflow_provider_mps.submission import max_tries_of, utc_now

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


PARKED_SECONDS = 300.0
"""Seconds after which the lock of a deferred batch expires, unless its trigger renews it."""


class Phase(StrEnum):
    """What its holder does."""

    RUNNING = "running"
    DEFERRED = "deferred"
    """It waits in the triggerer, which renews ``expires_at``."""


@dataclass(frozen=True)
class Holder:
    """Who is at work."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    try_number: int = 0
    max_tries: int = 0
    """Of the task instance; a clear raises it, a retry does not."""
    since: str = field(default_factory=utc_now)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    beat: int = 0
    phase: Phase = Phase.RUNNING
    expires_at: float | None = None
    """Seconds since 1970; while it is deferred: when another batch may take over. Version 1.0 set none."""

    @property
    def has_expired(self) -> bool:
        """Whether it is deferred, and no triggerer has waited for it for minutes."""
        return self.phase is Phase.DEFERRED and self.expires_at is not None and time.time() > self.expires_at

    def parked(self) -> Holder:
        """Return it as deferred from now on."""
        return replace(self, beat=self.beat + 1, phase=Phase.DEFERRED, expires_at=time.time() + PARKED_SECONDS)

    @classmethod
    def of(cls, context: Context) -> Holder:
        """Return the one whose task runs with this context."""
        instance = context.get("ti")
        map_index = getattr(instance, "map_index", None)
        return cls(
            dag_id=str(getattr(instance, "dag_id", "unknown")),
            run_id=str(getattr(instance, "run_id", "unknown")),
            task_id=str(getattr(instance, "task_id", "unknown")),
            map_index=-1 if map_index is None else int(map_index),
            try_number=int(getattr(instance, "try_number", 0) or 0),
            max_tries=max_tries_of(context),
        )

    @property
    def instance(self) -> tuple[str, str, str, int]:
        """The task instance, whichever its try."""
        return (self.dag_id, self.run_id, self.task_id, self.map_index)

    @property
    def told(self) -> str:
        """Who it is, for people."""
        index = f" [{self.map_index}]" if self.map_index >= 0 else ""
        return (
            f"task '{self.task_id}'{index} of DAG '{self.dag_id}', run '{self.run_id}' (try {self.try_number}, "
            f"{self.phase.value} since {self.since})"
        )

    @classmethod
    def parse(cls, content: bytes) -> Holder | None:
        """Return who wrote it; ``None`` where it cannot be read."""
        try:
            written = json.loads(content)
            return cls(
                dag_id=str(written["dag_id"]),
                run_id=str(written["run_id"]),
                task_id=str(written["task_id"]),
                map_index=int(written["map_index"]),
                try_number=int(written["try_number"]),
                max_tries=int(written["max_tries"]),
                since=str(written["since"]),
                token=str(written["token"]),
                beat=int(written["beat"]),
                phase=Phase(written["phase"]),
                expires_at=None if written.get("expires_at") is None else float(written["expires_at"]),
            )
        except (ValueError, TypeError, KeyError, RecursionError):
            return None

    def to_bytes(self) -> bytes:
        """Write it down."""
        return json.dumps(asdict(self)).encode()
