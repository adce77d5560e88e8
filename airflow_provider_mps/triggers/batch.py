"""Wait for the remaining tasks of a batch in Airflow's triggerer."""

from __future__ import annotations

import asyncio
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.polling.intervals import PollInterval
from airflow_provider_mps.polling.poller import wait_for_task
from airflow_provider_mps.triggers.task import serialize_trigger, wait_for_worker_exit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from airflow_provider_mps.batch.deferred_lease import DeferredLease

MAX_TASKS = 500
"""
Limit of task ids: a trigger's arguments must fit into MySQL's 64 KiB.

If there are more, the operator passes those submitted last, because they finish last.
"""


class TextToSpeechBatchTrigger(BaseTrigger):
    """
    Fire once, when all tasks have finished or can no longer be polled. The worker then polls each task itself.

    :param mps_task_ids: the ``TaskId`` of each task
    :param mps_conn_id: the connection, of type ``tencent_mps``
    :param region: overrides the connection's region
    :param poll_interval: seconds between two polls of one task
    :param deferred_at: when the worker deferred, in seconds since 1970
    :param deadline: when to stop waiting, in seconds since 1970; default: never
    :param lock_path: the batch's lock, which this trigger renews while it waits
    :param lock_token: identifies the task that deferred
    :param asked_at: ``deferred_at`` of a task that version 1.0 deferred
    """

    def __init__(
        self,
        mps_task_ids: Sequence[str],
        mps_conn_id: str = MpsHook.default_conn_name,
        region: str | None = None,
        poll_interval: float = 10.0,
        *,
        deferred_at: float | None = None,
        deadline: float | None = None,
        lock_path: str | None = None,
        lock_token: str | None = None,
        asked_at: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mps_task_ids = list(mps_task_ids)
        self.mps_conn_id = mps_conn_id
        self.region = region
        self.poll_interval = poll_interval
        self.deferred_at = asked_at if deferred_at is None else deferred_at
        self.deadline = deadline
        self.lock_path = lock_path
        self.lock_token = lock_token

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, from which Airflow recreates this trigger."""
        return serialize_trigger(self, TextToSpeechBatchTrigger)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.mps_task_ids)} tasks>"

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, hold the destination's lock meanwhile, and report how many tasks have finished."""
        lease = self._lease
        if lease is None:
            yield await self._wait()
            return
        lease.start()
        try:
            event = await self._wait()
        finally:
            lease.cancel()
        await lease.stop()
        yield event

    @cached_property
    def _lease(self) -> DeferredLease | None:
        """The deferred lease; ``None`` for a batch that version 1.0 deferred."""
        if self.lock_path is None or self.lock_token is None:
            return None
        from airflow_provider_mps.batch.deferred_lease import DeferredLease

        return DeferredLease(self.lock_path, self.lock_token, self.log)

    async def _wait(self) -> TriggerEvent:
        interval = PollInterval(self.poll_interval)
        waits = [
            wait_for_task(
                task_id,
                interval,
                self.mps_conn_id,
                self.region or None,
                self.poll_interval,
                operator=type(self).__name__,
                is_trigger=True,
            )
            for task_id in self.mps_task_ids
        ]
        timed_out = False
        outcomes: list[Any] = []
        try:
            async with asyncio.timeout(None if self.deadline is None else self.deadline - time.time()) as limit:
                outcomes = await asyncio.gather(*waits, return_exceptions=True)
        except TimeoutError:
            if not limit.expired():
                raise
            timed_out = True
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        finished = len(outcomes) - len(errors)
        if errors:
            self.log.warning("Waiting for %s of %s tasks failed: %s", len(errors), len(outcomes), errors[0])
        self.log.info("%s of %s tasks have finished", finished, len(self.mps_task_ids))
        await wait_for_worker_exit(self)
        return TriggerEvent({"finished": finished, "timed_out": timed_out})

    async def on_kill(self) -> None:
        """Release the destination's lock when a user ends the wait (Airflow 3.3); MPS has no call to cancel tasks."""
        self.log.warning(
            "At least %s tasks continue at MPS and may be billed: MPS has no call to cancel them. The result manifest "
            "lists them; clear this task to resume",
            len(self.mps_task_ids),
        )
        if self._lease is not None:
            await self._lease.release()
