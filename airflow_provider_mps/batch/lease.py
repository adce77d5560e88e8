"""
One batch at a time in one destination: who is at work there, and whether he still is.

Where the storage enforces conditional writes, each write of the lock is one: of two writers, one fails. Elsewhere a
writer waits after it has written, and looks whether its lock is still there.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch.clocks import Moment
from airflow_provider_mps.batch.holder import PARKED_SECONDS, Holder, Phase
from airflow_provider_mps.batch.objects import create_object, is_local, read_object, remove_object, replace_object
from airflow_provider_mps.conditional_write import (
    ConditionFailedError,
    Enforced,
    conditional_object,
    enforced_conditions,
)
from airflow_provider_mps.own_thread import in_own_thread
from airflow_provider_mps.store_errors import explaining

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.conditional_write import ConditionalObject

__all__ = ["DestinationTakenError", "Holder", "Lease", "Phase", "let_go"]

BEAT = 3.0
"""Seconds between two signs of life."""
VALID = 8.0
"""Seconds after a sign of life for which nobody else takes over, with some to spare."""
DEAD = 12.0
"""Seconds without a sign of life after which somebody else may."""
SETTLED = 3.0
"""Seconds that who takes over may need from looking to having written, and then waits: the later one of two is seen."""
TRIES = 10
"""Times that a store may be slower than that."""


class DestinationTakenError(AirflowException):
    """Another batch is at work in the destination; the message names it."""


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
        self._object: ConditionalObject | None = None
        self._enforced: Enforced | None = None
        """What the storage enforces; ``None`` until that is known."""
        self._version: str | None = None
        """The lock's when it was last read or written, if it is replaced conditionally."""
        self._last_beat: Moment | None = None
        """Before the last heartbeat was written."""
        self._seen = asyncio.Condition()
        self._writing: asyncio.Future[str | None] | None = None
        self.lost = False
        """Whether somebody else has taken over: nothing may be written any more."""

    async def take(self) -> None:
        """
        Take it: at once where nobody has it; from who has died once that is certain.

        :raises DestinationTakenError: when somebody else is at work
        """
        for _ in range(TRIES):
            started = Moment()
            # Looked at first: there are stores that overwrite what was only to be created.
            before = await self._read()
            if before is not None:
                if not await self._is_free(before):
                    continue
                started = Moment()
                if not _same(await self._read(), before):
                    continue
            try:
                is_sole = await self._take_over(before) if before else await self._take_first()
            except ConditionFailedError:
                continue  # another came in between
            if not is_sole:
                if started.elapsed > SETTLED:
                    self._log.warning("%s was written too slowly to be sure of it; once more", self._path)
                    continue
                await self._settle()
            self._last_beat = started
            return
        raise AirflowException(
            f"{self._path} could not be written within {SETTLED:g} seconds in {TRIES} tries, or others came "
            "in between: nothing was submitted. A retry tries again."
        )

    async def _take_first(self) -> bool:
        """
        Create the lock; return whether no other can have done so.

        :raises ConditionFailedError: when another has
        """
        if not await self._create():
            raise ConditionFailedError(f"{self._path} exists")
        enforced = await self._learn()
        if enforced.replace and not _same(await self._read(), self._mine):
            raise ConditionFailedError(f"{self._path} has changed")
        return enforced.create

    async def _take_over(self, before: Holder) -> bool:
        """
        Replace the lock of another, or one of its own that was written too slowly; return whether no other can have.

        :raises ConditionFailedError: when another has
        """
        enforced = await self._learn()
        if enforced.replace and not _same(await self._read(), before):
            raise ConditionFailedError(f"{self._path} has changed")
        await self._replace(self._mine)
        return enforced.replace

    async def _learn(self) -> Enforced:
        """Find out once what the storage enforces: if that is nothing, the lock is overwritten."""
        if self._enforced is None:
            if is_local(self._path):
                self._enforced = Enforced(create=True)
            else:
                self._object = await in_own_thread(lambda: conditional_object(self._path))
                target, content = self._object, self._mine.to_bytes()
                self._enforced = await in_own_thread(lambda: enforced_conditions(target, content))
        return self._enforced

    @property
    def _is_conditional(self) -> bool:
        """Whether the lock is replaced only as it is known."""
        return self._enforced is not None and self._enforced.replace

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
        await self._require_mine()

    async def keep(self) -> NoReturn:
        """
        Give signs of life, for ever.

        :raises DestinationTakenError: when somebody else has taken over
        """
        while True:
            await asyncio.sleep(BEAT)
            started = Moment()
            try:
                await self._beat(started)
            except DestinationTakenError:
                await self._wake()
                raise
            except AirflowException as error:
                self._log.warning("No sign of life could be written to %s, still trying: %s", self._path, error)
            else:
                self._last_beat = started
                await self._wake()

    async def _wake(self) -> None:
        """Let those look again who wait in :meth:`held`."""
        async with self._seen:
            self._seen.notify_all()

    async def _beat(self, started: Moment) -> None:
        if not self._is_conditional:
            await self._require_mine()
        self._mine = replace(self._mine, beat=self._mine.beat + 1)
        try:
            await self._replace(self._mine)
        except ConditionFailedError:
            # Another has taken over, or a heartbeat was written of which the response was lost.
            await self._require_mine()
            await self._replace(self._mine)
        if not self._is_conditional and self._last_beat and self._last_beat.elapsed > DEAD:
            await self._prove_alive(started.elapsed)

    async def _require_mine(self) -> None:
        """
        Read the lock, and its version.

        :raises DestinationTakenError: when it is another's, or was removed
        """
        now = await self._read()
        if now is None or now.token != self._mine.token:
            self.lost = True
            self._refuse(now)

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

    def is_held(self) -> bool:
        """
        Return whether no other may have taken over by now. It does no I/O: call it last before what only one may do.

        ``False`` does not mean that it is lost: :meth:`held` waits until that is certain.
        """
        return not self.lost and self._last_beat is not None and self._last_beat.elapsed <= VALID

    async def held(self) -> None:
        """
        Return while nobody else may have taken over; wait for the next sign of life where that is not certain.

        :raises DestinationTakenError: when somebody else has
        """
        while not self.lost and not self.is_held():
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
        content, version = holder.to_bytes(), self._version

        def write() -> str | None:
            if self._object is None or not self._is_conditional:
                replace_object(self._path, content)
                return None
            with explaining(self._path):
                return self._object.write(content, version)

        self._writing = in_own_thread(write)
        self._version = await asyncio.shield(self._writing)

    async def _written(self) -> None:
        """Return when no sign of life is on its way any more: who waits for one may leave, its thread does not."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    async def _read(self) -> Holder | None:
        if self._object is not None and self._is_conditional:
            content, self._version = await in_own_thread(self._read_version)
        else:
            content = await in_own_thread(lambda: read_object(self._path))
        if content is None:
            return None
        # What cannot be read is being written, or nobody's: who does not change it has died.
        return Holder.parse(content) or Holder("unknown", "unknown", "unknown", token="", since="an unknown time")

    def _read_version(self) -> tuple[bytes | None, str | None]:
        with explaining(self._path, doing="read"):
            found = self._object.read() if self._object else None
        return found or (None, None)


def _same(now: Holder | None, before: Holder) -> bool:
    """Tell whether there was no sign of life in between."""
    return now is not None and (now.token, now.beat, now.phase) == (before.token, before.beat, before.phase)
