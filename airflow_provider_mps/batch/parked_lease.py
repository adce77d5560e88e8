"""The lock of a batch while it waits in the triggerer: its trigger is the holder, and without it the lock expires."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowException, ObjectStoragePath

from airflow_provider_mps.batch.holder import Holder, Phase
from airflow_provider_mps.batch.objects import read_object, remove_object, replace_object
from airflow_provider_mps.conditional_write import ConditionFailedError, conditional_object
from airflow_provider_mps.older_airflow import can_look_up_connections_in_threads
from airflow_provider_mps.own_thread import in_own_thread
from airflow_provider_mps.redaction import describe_error

if TYPE_CHECKING:
    from collections.abc import Callable

RENEW_SECONDS = 60.0
"""Seconds between two renewals: one small write a minute for each deferred batch."""
STOP_TIMEOUT_SECONDS = 10.0
"""Seconds that a renewal under way may take to end, before the worker resumes."""


class ParkedLease:
    """
    The lock of one deferred batch.

    All its storage calls run in threads of their own, since a triggerer has one event loop for all triggers.

    :param path: of the lock
    :param token: of the task that has deferred; a lock with another one is left alone
    :param log: the trigger's
    """

    def __init__(self, path: str, token: str, log: Any) -> None:
        self._path = path
        self._token = token
        self._log = log
        self._call: asyncio.Future[bool] | None = None
        self._keeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Renew it from now on, until :meth:`stop`."""
        if _needs_connection(self._path) and not can_look_up_connections_in_threads():
            self._log.info("Triggers of this Airflow cannot renew %s: another batch may begin in minutes", self._path)
            return
        self._keeping = asyncio.create_task(self._keep())

    def cancel(self) -> None:
        """Renew it no more."""
        if self._keeping is not None:
            self._keeping.cancel()

    async def stop(self) -> None:
        """Renew it no more, and return when no write is on its way that might undo what the worker writes."""
        self.cancel()
        if self._call is not None:
            await asyncio.wait([self._call], timeout=STOP_TIMEOUT_SECONDS)

    async def release(self) -> None:
        """Let the next batch begin at once."""
        await self.stop()
        try:
            await self._change(None)
        except Exception as error:  # noqa: BLE001 - it expires
            self._log.warning("The lock %s could not be released, and expires by itself: %s", self._path, _words(error))

    async def _keep(self) -> None:
        while True:
            try:
                if not await self._change(Holder.parked):
                    return
            except Exception as error:  # noqa: BLE001 - a lock that expires is better than a task that fails
                self._log.warning("The lock %s could not be renewed, will retry: %s", self._path, _words(error))
            await asyncio.sleep(RENEW_SECONDS)

    async def _change(self, change: Callable[[Holder], Holder] | None) -> bool:
        """
        Rewrite or release the lock; return ``False`` where it belongs to another task, or is gone.

        Where the storage enforces conditions, a write that arrives late cannot undo what the worker writes.
        """

        def rewrite() -> bool:
            path = ObjectStoragePath(self._path)
            target = conditional_object(path)
            content, version = (target.read() or (b"", None)) if target else (read_object(path) or b"", None)
            holder = Holder.parse(content)
            if holder is None or holder.token != self._token or holder.phase is not Phase.DEFERRED:
                return False
            if target is None:
                if change is None:
                    remove_object(path)
                else:
                    replace_object(path, change(holder).to_bytes())
                return True
            changed = change(holder) if change else replace(holder, expires_at=0.0)
            try:
                target.write(changed.to_bytes(), version)
            except ConditionFailedError:
                return False
            return True

        self._call = in_own_thread(rewrite)
        return await asyncio.shield(self._call)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, AirflowException) else describe_error(error)


def _needs_connection(path: str) -> bool:
    """Return whether a connection is looked up for a path; building an ``ObjectStoragePath`` may look it up already."""
    place = urlsplit(path)
    return "@" in place.netloc or place.scheme == "cos"
