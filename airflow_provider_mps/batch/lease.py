"""
Distributed lock with heartbeats: one batch at a time works in a destination.

If the storage enforces conditional writes, each write of the lock is conditional, and of two writers one fails.
Otherwise a writer waits after it has written, and then checks that the lock is still its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch.lock_holder import DEFERRED_LOCK_SECONDS, LockHolder, Phase, SuspensionAwareTimer
from airflow_provider_mps.concurrency import run_in_daemon_thread
from airflow_provider_mps.exceptions import DestinationLockedError
from airflow_provider_mps.storage.conditional_write import (
    ConditionFailedError,
    EnforcedConditions,
    detect_enforced_conditions,
    get_conditional_object,
)
from airflow_provider_mps.storage.destination import is_local
from airflow_provider_mps.storage.errors import translate_storage_errors
from airflow_provider_mps.storage.objects import create_object, read_object, remove_object, replace_object

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.storage.conditional_write import ConditionalObject

HEARTBEAT_INTERVAL_SECONDS = 3.0
LEASE_VALIDITY_SECONDS = 8.0
"""A batch holds its lock for certain for this long after a heartbeat: less than the expiry, as a safety margin."""
LEASE_EXPIRY_SECONDS = 12.0
"""Age of the last heartbeat after which another batch may take over."""
SETTLE_DELAY_SECONDS = 3.0
"""Longest safe time to read and write the lock. The batch then waits as long, to see another batch's write."""
MAX_ATTEMPTS = 10
"""Attempts to acquire a lock if the storage is slower than the settle delay, or other batches interfere."""


def release_own_deferred_lock(path: ObjectStoragePath, holder: LockHolder) -> None:
    """Remove the lock of this task instance's deferred batch, which will not resume."""
    current = LockHolder.parse(read_object(path) or b"")
    if current and current.phase is Phase.DEFERRED and current.instance == holder.instance:
        remove_object(path)


class Lease:
    """Permission to work in a destination, by the lock at ``path``, while :meth:`heartbeat` runs."""

    def __init__(self, path: ObjectStoragePath, holder: LockHolder, log: Any) -> None:
        self._path = path
        self._holder = holder
        self._log = log
        self._conditional_object: ConditionalObject | None = None
        """The lock, if the storage enforces conditional replacement; else ``None``."""
        self._enforced: EnforcedConditions | None = None
        """Conditions that the storage enforces; ``None`` until they are known."""
        self._version: str | None = None
        """Version of the lock when it was last read or written, if the storage enforces conditional replacement."""
        self._last_heartbeat: SuspensionAwareTimer | None = None
        """Started before the last heartbeat was written."""
        self._heartbeat_ended = asyncio.Condition()
        self._pending_write: asyncio.Future[str | None] | None = None
        self.is_lost = False
        """Whether another batch has taken over, so that nothing may be written any more."""
        self._has_ended = False
        """Whether this batch gives the lock back, or has done so. A write in a thread must stop, too."""

    async def acquire(self) -> None:
        """
        Acquire the lock, at once if it is free, or after its holder has shown no heartbeat until the expiry.

        :raises DestinationLockedError: when another batch holds it
        :raises AirflowException: when all attempts failed: the storage is too slow, or other batches interfere
        """
        for _ in range(MAX_ATTEMPTS):
            timer = SuspensionAwareTimer()
            # Read first: some storages overwrite an existing object even on a create-only write.
            before = await self._read()
            if before is not None:
                if not await self._wait_until_available(before):
                    continue
                timer = SuspensionAwareTimer()
                if not before.is_unchanged(await self._read()):
                    continue
            try:
                is_exclusive = await self._write_lock(before)
            except ConditionFailedError:
                continue  # another batch has written it in between
            if not is_exclusive:
                if timer.elapsed_seconds > SETTLE_DELAY_SECONDS:
                    self._log.warning("Writing the lock %s took too long to be safe, will retry", self._path)
                    continue
                await self._confirm_after_delay()
            self._last_heartbeat = timer
            return
        raise AirflowException(
            f"The lock {self._path} could not be acquired in {MAX_ATTEMPTS} attempts: each took longer than "
            f"{SETTLE_DELAY_SECONDS:g} seconds, or another batch interfered. Nothing was submitted; retry the task."
        )

    async def _wait_until_available(self, before: LockHolder) -> bool:
        """Return ``True`` when the lock may be taken over; ``False`` if its holder has released it meanwhile."""
        if before.token == self._holder.token:
            return True  # this lease wrote it too slowly
        if before.phase is Phase.DEFERRED:
            if before.instance != self._holder.instance and not before.has_expired:
                self._raise_locked(before)
            return True
        self._log.info("%s is locked by %s; waiting for its next heartbeat", self._path, before.description)
        clock = asyncio.get_running_loop().time
        deadline = clock() + LEASE_EXPIRY_SECONDS
        while clock() < deadline:
            await asyncio.sleep(HEARTBEAT_INTERVAL_SECONDS / 3)
            current = await self._read()
            if current is None:
                return False
            if not before.is_unchanged(current):
                self._raise_locked(current)
        self._log.warning("No heartbeat for %g s from %s; taking over", LEASE_EXPIRY_SECONDS, before.description)
        return True

    async def _write_lock(self, before: LockHolder | None) -> bool:
        """Create or replace the lock; return whether the storage guarantees that no other batch did so meanwhile."""
        content = self._holder.to_bytes()
        if before is None and not await run_in_daemon_thread(lambda: create_object(self._path, content)):
            raise ConditionFailedError(f"{self._path} exists")
        enforced = await self._probe_storage()
        if enforced.replace and not (before or self._holder).is_unchanged(await self._read()):
            raise ConditionFailedError(f"{self._path} has changed")
        if before is None:
            return enforced.create
        await self._replace(self._holder)
        return enforced.replace

    async def _probe_storage(self) -> EnforcedConditions:
        """Return which conditions the storage enforces; if it enforces none, the probe overwrites the lock."""
        content = self._holder.to_bytes()

        def probe() -> EnforcedConditions:
            target = get_conditional_object(self._path)
            enforced = detect_enforced_conditions(target, content)
            self._conditional_object = target if enforced.replace else None
            return enforced

        if self._enforced is None:
            self._enforced = (
                EnforcedConditions(create=True) if is_local(self._path) else await run_in_daemon_thread(probe)
            )
        return self._enforced

    async def _confirm_after_delay(self) -> None:
        """Wait until a write of another batch at the same time would be visible, then validate the ownership."""
        await asyncio.sleep(SETTLE_DELAY_SECONDS)
        await self._validate_ownership()

    async def heartbeat(self) -> NoReturn:
        """
        Write heartbeats until cancelled.

        :raises DestinationLockedError: when another batch has taken over
        """
        while True:
            await asyncio.sleep(HEARTBEAT_INTERVAL_SECONDS)
            timer = SuspensionAwareTimer()
            try:
                await self._write_heartbeat(timer)
                self._last_heartbeat = timer
            except DestinationLockedError:
                raise
            except AirflowException as error:
                self._log.warning("Writing a heartbeat to %s failed, will retry: %s", self._path, error)
            finally:
                async with self._heartbeat_ended:
                    self._heartbeat_ended.notify_all()

    async def _write_heartbeat(self, timer: SuspensionAwareTimer) -> None:
        if self._conditional_object is None:
            await self._validate_ownership()
        self._holder = replace(self._holder, beat=self._holder.beat + 1)
        try:
            await self._replace(self._holder)
        except ConditionFailedError:
            # Another batch has taken over, or a heartbeat was written whose response was lost.
            await self._validate_ownership()
            await self._replace(self._holder)
        last = self._last_heartbeat
        if self._conditional_object is not None or last is None or last.elapsed_seconds <= LEASE_EXPIRY_SECONDS:
            return
        # Another batch may have taken over since the last heartbeat; a slow write may have overwritten its lock.
        if (seconds := timer.elapsed_seconds) > SETTLE_DELAY_SECONDS:
            self.is_lost = True
            raise DestinationLockedError(
                f"Writing a heartbeat to {self._path} took {seconds:.0f} seconds, and another batch may have taken "
                "over meanwhile. What this batch submitted is recorded; a retry continues."
            )
        await self._confirm_after_delay()

    async def _validate_ownership(self) -> None:
        current = await self._read()
        if current is None or current.token != self._holder.token:
            self.is_lost = True
            self._raise_locked(current)

    def is_held(self) -> bool:
        """Return whether no other batch can have taken over yet; :meth:`ensure_held` waits while that is uncertain."""
        last = self._last_heartbeat
        has_lock = not self.is_lost and not self._has_ended
        return has_lock and last is not None and last.elapsed_seconds <= LEASE_VALIDITY_SECONDS

    async def ensure_held(self) -> None:
        """
        Return when no other batch can have taken over; wait for the next heartbeat while that is uncertain.

        :raises DestinationLockedError: when another batch has taken over, or this one has released the lock
        """
        while not self.is_lost and not self._has_ended and not self.is_held():
            async with self._heartbeat_ended:
                await self._heartbeat_ended.wait()
        if self.is_lost or self._has_ended:
            self._raise_locked(await self._read())

    async def mark_deferred(self) -> bool:
        """
        Keep the lock while the batch waits in the triggerer, where a ``DeferredLease`` extends it.

        :return: whether this batch held the lock
        """
        await self._end()
        if is_own := await self._check_ownership():
            self._holder = self._holder.as_deferred()
            await self._replace(self._holder)
        return is_own

    async def release(self) -> bool:
        """Remove the lock, so that the next batch starts at once; return whether this batch held it."""
        await self._end()
        if is_own := await self._check_ownership():
            await run_in_daemon_thread(lambda: remove_object(self._path))
        return is_own

    async def _end(self) -> None:
        self._has_ended = True  # first: the next batch may start as soon as the lock has changed
        async with self._heartbeat_ended:
            self._heartbeat_ended.notify_all()

    async def _check_ownership(self) -> bool:
        if self._pending_write is not None:  # its thread continues after the heartbeat task is cancelled
            await asyncio.wait([self._pending_write])
        current = await self._read()
        return current is not None and current.token == self._holder.token

    def _raise_locked(self, other: LockHolder | None) -> NoReturn:
        reason = (
            f"locked by {other.description}" if other else "not locked by this batch any more: its lock was removed"
        )
        raise DestinationLockedError(
            f"{self._path.parent.parent} is {reason}. What this batch has submitted is recorded. Wait until "
            f"the other batch has ended, or choose another destination; the lock {self._path} of a deferred batch "
            f"without a triggerer expires within {DEFERRED_LOCK_SECONDS / 60:g} minutes."
        )

    async def _replace(self, holder: LockHolder) -> None:
        content, version = holder.to_bytes(), self._version

        def write() -> str | None:
            if self._conditional_object is None:
                replace_object(self._path, content)
                return None
            with translate_storage_errors(self._path):
                return self._conditional_object.write(content, version)

        self._pending_write = run_in_daemon_thread(write)
        self._version = await asyncio.shield(self._pending_write)

    async def _read(self) -> LockHolder | None:
        def read() -> tuple[bytes | None, str | None]:
            if self._conditional_object is None:
                return read_object(self._path), self._version
            with translate_storage_errors(self._path, action="read"):
                return self._conditional_object.read() or (None, None)

        content, self._version = await run_in_daemon_thread(read)
        if content is None:
            return None
        # A lock that cannot be parsed is being written, or damaged; it expires like one without heartbeats.
        return LockHolder.parse(content) or LockHolder(
            "unknown", "unknown", "unknown", token="", since="an unknown time"
        )
