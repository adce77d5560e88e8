"""Renew the lock of a batch while it waits in the triggerer; without a trigger the lock expires."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowException, ObjectStoragePath

from airflow_provider_mps.batch.lock_holder import LockHolder, Phase
from airflow_provider_mps.concurrency import run_in_daemon_thread
from airflow_provider_mps.redaction import describe_error
from airflow_provider_mps.storage.conditional_write import ConditionFailedError, get_conditional_object
from airflow_provider_mps.storage.objects import read_object, remove_object, replace_object
from airflow_provider_mps.version_compat import can_call_airflow_in_threads

RENEWAL_INTERVAL_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 10.0
"""Longest wait for a renewal in progress, before the worker resumes."""


class DeferredLease:
    """
    The lock of one deferred batch; a lock with another ``token`` is left unchanged.

    All storage calls run in daemon threads: a triggerer has one event loop for all triggers.
    """

    def __init__(self, path: str, token: str, log: Any) -> None:
        self._path = path
        self._token = token
        self._log = log
        self._call: asyncio.Future[bool] | None = None
        self._renewal_task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to renew the lock, until :meth:`stop`."""
        url = urlsplit(self._path)
        # Building an ObjectStoragePath may look up its connection already.
        needs_connection = "@" in url.netloc or url.scheme == "cos"
        if needs_connection and not can_call_airflow_in_threads():
            self._log.info("Triggers of this Airflow version cannot renew the lock %s; it expires soon", self._path)
            return
        self._renewal_task = asyncio.create_task(self._renew())

    def cancel(self) -> None:
        """Stop the renewal without waiting for a write in progress."""
        if self._renewal_task is not None:
            self._renewal_task.cancel()

    async def stop(self) -> None:
        """Stop the renewal, and wait for a write in progress, which might overwrite a write of the worker."""
        self.cancel()
        if self._call is not None:
            await asyncio.wait([self._call], timeout=STOP_TIMEOUT_SECONDS)

    async def release(self) -> None:
        """Release the lock, so that the next batch starts at once."""
        await self.stop()
        try:
            await self._update(is_released=True)
        except Exception as error:  # noqa: BLE001 - the lock expires
            self._log.warning("Releasing the lock %s failed; it expires soon: %s", self._path, _describe(error))

    async def _renew(self) -> None:
        while True:
            try:
                if not await self._update(is_released=False):
                    return
            except Exception as error:  # noqa: BLE001 - a lock that expires is better than a task that fails
                self._log.warning("Renewing the lock %s failed, will retry: %s", self._path, _describe(error))
            await asyncio.sleep(RENEWAL_INTERVAL_SECONDS)

    async def _update(self, *, is_released: bool) -> bool:
        """
        Renew or release the lock; return ``False`` if it is missing, has changed, or is not this batch's deferred lock.

        If the storage enforces conditional writes, a late write cannot overwrite a write of the worker.
        """

        def update() -> bool:
            path = ObjectStoragePath(self._path)
            target = get_conditional_object(path)
            content, version = (target.read() if target else (read_object(path), None)) or (None, None)
            holder = LockHolder.parse(content or b"")
            if holder is None or holder.token != self._token or holder.phase is not Phase.DEFERRED:
                return False
            renewed = (replace(holder, expires_at=0.0) if is_released else holder.as_deferred()).to_bytes()
            if target is not None:
                try:
                    target.write(renewed, version)
                except ConditionFailedError:
                    return False
            elif is_released:
                remove_object(path)
            else:
                replace_object(path, renewed)
            return True

        self._call = run_in_daemon_thread(update)
        return await asyncio.shield(self._call)


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, AirflowException) else describe_error(error)
