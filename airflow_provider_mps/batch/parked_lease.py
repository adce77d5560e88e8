"""The lock of a batch while it waits in the triggerer: its trigger is the holder, and without it the lock expires."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.batch.holder import Holder, Phase
from airflow_provider_mps.batch.objects import read_object, remove_object, replace_object
from airflow_provider_mps.older_airflow import can_look_up_connections_in_threads
from airflow_provider_mps.own_thread import in_own_thread

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
        if ObjectStoragePath(self._path).conn_id is not None and not can_look_up_connections_in_threads():
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
            await self._change(_remove)
        except Exception as error:  # noqa: BLE001 - it expires
            self._log.warning("The lock %s could not be removed, and expires by itself: %s", self._path, error)

    async def _keep(self) -> None:
        while True:
            try:
                if not await self._change(_renew):
                    return
            except Exception as error:  # noqa: BLE001 - a lock that expires is better than a task that fails
                self._log.warning("The lock %s could not be renewed, will retry: %s", self._path, error)
            await asyncio.sleep(RENEW_SECONDS)

    async def _change(self, act: Callable[[ObjectStoragePath, Holder], None]) -> bool:
        """Renew or remove the lock; return ``False`` where it belongs to another task, or is gone."""

        def change() -> bool:
            path = ObjectStoragePath(self._path)
            holder = Holder.parse(read_object(path) or b"")
            if holder is None or holder.token != self._token or holder.phase is not Phase.DEFERRED:
                return False
            act(path, holder)
            return True

        self._call = in_own_thread(change)
        return await asyncio.shield(self._call)


def _renew(path: ObjectStoragePath, holder: Holder) -> None:
    replace_object(path, holder.parked().to_bytes())


def _remove(path: ObjectStoragePath, _: Holder) -> None:
    remove_object(path)
