"""One batch at a time in one destination: who is at work there, and whether he still is."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch.objects import create_object, is_local, read_object, remove_object, replace_object
from airflow_provider_mps.own_thread import in_own_thread
from airflow_provider_mps.submission import max_tries_of, utc_now

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

BEAT = 3.0
"""Seconds between two signs of life."""
VALID = 8.0
"""Seconds after a sign of life for which nobody else takes over, with some to spare."""
DEAD = 12.0
"""Seconds without a sign of life after which somebody else may."""
SETTLED = 3.0
"""Seconds that who takes over may need from looking to having written, and then waits: the later one of two is seen."""
PARKED_SECONDS = 300.0
"""Seconds after which the lock of a deferred batch expires, unless its trigger renews it."""
TRIES = 10
"""Times that a store may be slower than that."""


class DestinationTakenError(AirflowException):
    """Another batch is at work in the destination; the message names it."""


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


def let_go(path: ObjectStoragePath, mine: Holder) -> None:
    """
    Release what a task has kept for its time in the triggerer, where that has ended and nothing follows.

    :param path: of the object that tells who has it
    :param mine: the task
    """
    holder = Holder.parse(read_object(path) or b"")
    if holder and holder.phase is Phase.DEFERRED and holder.instance == mine.instance:
        remove_object(path)


class Lease:
    """
    The right to work in a destination, as long as :meth:`keep` runs.

    :param path: of the object that tells who has it
    :param mine: who wants it
    :param log: the task's
    """

    def __init__(self, path: ObjectStoragePath, mine: Holder, log: Any) -> None:
        self._path = path
        self._mine = mine
        self._log = log
        self._sign_of_life_at = 0.0
        self._seen = asyncio.Condition()
        self._writing: asyncio.Future[None] | None = None
        self.lost = False
        """Whether somebody else has taken over: nothing may be written any more."""

    async def take(self) -> None:
        """
        Take it: at once where nobody has it; from who has died once that is certain.

        :raises DestinationTakenError: when somebody else is at work
        """
        clock = asyncio.get_running_loop().time
        for _ in range(TRIES):
            started = clock()
            # Looked at first: there are stores that overwrite what was only to be created.
            before = await self._read()
            if before is None:
                if not await self._create():
                    continue  # somebody came in between
                if is_local(self._path):  # where of two who come at once only one can
                    self._sign_of_life_at = started
                    return
            else:
                if not await self._is_free(before):
                    continue
                started = clock()
                if not _same(await self._read(), before):
                    continue
                await self._replace(self._mine)
            if clock() - started <= SETTLED:
                await self._settle()
                self._sign_of_life_at = started
                return
            self._log.warning("%s was written too slowly to be sure of it; once more", self._path)
        raise AirflowException(
            f"{self._path} could not be written within {SETTLED:g} seconds in {TRIES} tries, or others came "
            "in between: nothing was submitted. A retry tries again."
        )

    async def _is_free(self, before: Holder) -> bool:
        """Return whether it may be taken from who has it, once that is certain; ``False`` where nobody has it now."""
        if before.token == self._mine.token:
            return True  # it was written too slowly
        if before.phase is Phase.DEFERRED:
            if before.instance != self._mine.instance and not before.has_expired:
                self._refuse(before)
            return True
        return await self._is_dead(before)

    async def _settle(self) -> None:
        """Return when anybody who came at the same time would be seen."""
        await asyncio.sleep(SETTLED)
        now = await self._read()
        if now is None or now.token != self._mine.token:
            self.lost = True
            self._refuse(now)

    async def keep(self) -> NoReturn:
        """
        Give signs of life, for ever.

        :raises DestinationTakenError: when somebody else has taken over
        """
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(BEAT)
            started = clock()
            try:
                now = await self._read()
                if now is None or now.token != self._mine.token:
                    self.lost = True
                    self._refuse(now)
                self._mine = replace(self._mine, beat=self._mine.beat + 1)
                await self._replace(self._mine)
                if clock() > self._sign_of_life_at + DEAD:
                    await self._prove_alive(clock() - started)
            except DestinationTakenError:
                raise
            except AirflowException as error:
                self._log.warning("No sign of life could be written to %s, still trying: %s", self._path, error)
            else:
                self._sign_of_life_at = started
                async with self._seen:
                    self._seen.notify_all()

    async def _prove_alive(self, took: float) -> None:
        """
        Make sure, after so long without a sign of life that somebody else may have taken over meanwhile.

        :param took: seconds from looking to having written: after too many, who has taken over may be overwritten
        """
        if took > SETTLED:
            self.lost = True
            raise DestinationTakenError(
                f"A sign of life for {self._path} took {took:.0f} seconds to be written, so that another batch may "
                "have taken over meanwhile. Nothing was lost: what this one has submitted is written down, and a retry "
                "goes on."
            )
        await self._settle()

    async def held(self) -> None:
        """
        Return while nobody else may have taken over; wait for the next sign of life where that is not certain.

        :raises DestinationTakenError: when somebody else has
        """
        while not self.lost and asyncio.get_running_loop().time() > self._sign_of_life_at + VALID:
            async with self._seen:
                await self._seen.wait()
        if self.lost:
            self._refuse(await self._read())

    async def park(self) -> None:
        """Keep it while the batch waits in the triggerer, whose :class:`.parked_lease.ParkedLease` renews it."""
        await self._written()
        now = await self._read()
        if now is not None and now.token == self._mine.token:
            self._mine = self._mine.parked()
            await self._replace(self._mine)

    async def release(self) -> None:
        """Let the next one begin at once."""
        await self._written()
        now = await self._read()
        if now is not None and now.token == self._mine.token:
            await in_own_thread(lambda: remove_object(self._path))

    async def _is_dead(self, before: Holder) -> bool:
        """Return when the other has surely died; ``False`` where it has released the destination meanwhile."""
        self._log.info("%s is locked by %s; watching whether that is still at work", self._path, before.told)
        deadline = asyncio.get_running_loop().time() + DEAD
        while asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(BEAT / 3)
            now = await self._read()
            if now is None:
                return False
            if not _same(now, before):
                self._refuse(now)
        self._log.warning("%s gives no sign of life for %g seconds: taking over", before.told, DEAD)
        return True

    def _refuse(self, other: Holder | None) -> NoReturn:
        who = other.told if other else "somebody who has removed this batch's lock"
        raise DestinationTakenError(
            f"{self._path.parent.parent} is taken by another batch: {who}. Nothing was lost: what this one has "
            "submitted is in the result manifest. Wait until that has ended, or choose another destination. The "
            f"lock {self._path} of a batch that no triggerer waits for expires within {PARKED_SECONDS / 60:g} minutes."
        )

    async def _create(self) -> bool:
        return await in_own_thread(lambda: create_object(self._path, self._mine.to_bytes()))

    async def _replace(self, holder: Holder) -> None:
        self._writing = in_own_thread(lambda: replace_object(self._path, holder.to_bytes()))
        await asyncio.shield(self._writing)

    async def _written(self) -> None:
        """Return when no sign of life is on its way any more: who waits for one may leave, its thread does not."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    async def _read(self) -> Holder | None:
        content = await in_own_thread(lambda: read_object(self._path))
        if content is None:
            return None
        # What cannot be read is being written, or nobody's: who does not change it has died.
        return Holder.parse(content) or Holder("unknown", "unknown", "unknown", token="", since="an unknown time")


def _same(now: Holder | None, before: Holder) -> bool:
    """Tell whether there was no sign of life in between."""
    return now is not None and (now.token, now.beat, now.phase) == (before.token, before.beat, before.phase)
