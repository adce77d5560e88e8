"""Wait in Airflow's triggerer for what is left of a batch."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.intervals import PollInterval
from airflow_provider_mps.triggers.poller import wait_for_task
from airflow_provider_mps.triggers.text_to_speech import worker_has_gone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from airflow_provider_mps.batch.parked_lease import ParkedLease

MOST_TASKS = 500
"""MySQL keeps 64 KiB of a trigger's arguments. Of more, the last ones are waited for, which are done last."""


class TextToSpeechBatchTrigger(BaseTrigger):
    """
    Fire once, when all of some tasks have finished, or can no longer be waited for: the worker looks which.

    :param mps_task_ids: the ``TaskId`` of each
    :param mps_conn_id: the connection, of type ``tencent_mps``
    :param region: goes before the connection's own region
    :param poll_interval: seconds between two questions about one task
    :param asked_at: when the worker deferred, in seconds since 1970
    :param deadline: when to give up, in seconds since 1970
    :param lock_path: of the lock of the batch, which this trigger keeps while it waits
    :param lock_token: of the task that has deferred
    """

    def __init__(
        self,
        mps_task_ids: Sequence[str],
        mps_conn_id: str = MpsHook.default_conn_name,
        region: str | None = None,
        poll_interval: float = 10.0,
        *,
        asked_at: float | None = None,
        deadline: float | None = None,
        lock_path: str | None = None,
        lock_token: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mps_task_ids = list(mps_task_ids)
        self.mps_conn_id = mps_conn_id
        self.region = region
        self.poll_interval = poll_interval
        self.asked_at = asked_at
        self.deadline = deadline
        self.lock_path = lock_path
        self.lock_token = lock_token
        self._lock: ParkedLease | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow needs to make this trigger anew."""
        names = (
            "mps_task_ids",
            "mps_conn_id",
            "region",
            "poll_interval",
            "asked_at",
            "deadline",
            "lock_path",
            "lock_token",
        )
        path = f"{TextToSpeechBatchTrigger.__module__}.{TextToSpeechBatchTrigger.__qualname__}"
        return path, {name: getattr(self, name) for name in names}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.mps_task_ids)} tasks>"

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and return how many have finished; keep the destination locked meanwhile."""
        lock = self._parked_lease()
        if lock is None:
            yield await self._wait()
            return
        lock.start()
        try:
            event = await self._wait()
        finally:
            lock.cancel()
        await lock.stop()
        yield event

    def _parked_lease(self) -> ParkedLease | None:
        """Return the lock to keep; ``None`` for a batch that version 1.0 has deferred."""
        if self._lock is None and self.lock_path is not None and self.lock_token is not None:
            from airflow_provider_mps.batch.parked_lease import ParkedLease  # noqa: PLC0415 - it is needed here only

            self._lock = ParkedLease(self.lock_path, self.lock_token, self.log)
        return self._lock

    async def _wait(self) -> TriggerEvent:
        interval = PollInterval(self.poll_interval)
        waits = [
            wait_for_task(task_id, interval, self.mps_conn_id, self.region or None, self.poll_interval)
            for task_id in self.mps_task_ids
        ]
        timed_out = False
        ended: list[Any] = []
        try:
            async with asyncio.timeout(None if self.deadline is None else self.deadline - time.time()) as limit:
                ended = await asyncio.gather(*waits, return_exceptions=True)
        except TimeoutError:
            if not limit.expired():
                raise
            timed_out = True
        errors = [error for error in ended if isinstance(error, BaseException)]
        if errors:
            self.log.warning("%s of %s tasks could not be waited for: %s", len(errors), len(ended), errors[0])
        self.log.info("%s of %s tasks have finished", len(ended) - len(errors), len(self.mps_task_ids))
        await worker_has_gone(self)
        return TriggerEvent({"finished": len(ended) - len(errors), "timed_out": timed_out})

    async def on_kill(self) -> None:
        """Release the destination, when a user has ended the waiting (Airflow 3.3); MPS has no call to cancel tasks."""
        self.log.warning(
            "%s tasks and more go on at MPS, and may be billed: MPS has no call to cancel them. The result manifest "
            "names them; a clear goes on with them",
            len(self.mps_task_ids),
        )
        if lock := self._parked_lease():
            await lock.release()
