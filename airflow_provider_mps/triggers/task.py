"""What the triggers that wait for one task of MPS share."""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSensorTimeout
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_mps.exceptions import InvalidMpsConnectionError, InvalidRequestError, MpsApiError
from airflow_provider_mps.polling.event import LastSeen, event_from_outcome
from airflow_provider_mps.polling.intervals import PollInterval

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow.providers.common.compat.sdk import AirflowException

    from airflow_provider_mps.api.actions import ApiCall
    from airflow_provider_mps.speech.task import MpsTask

REQUEUE_GRACE_SECONDS = 10.0
"""
Seconds after a deferral before which the task must not be queued again.

A worker's supervisor exits up to 5 s after its task. Airflow fails a task whose "success" arrives while it is queued.
"""


class TaskTrigger(BaseTrigger):
    """
    Fire once, when a task of MPS has finished or can no longer be polled.

    All triggers for tasks of one kind on one connection and region in a triggerer share one poll loop, one client and
    one rate limit; see :func:`~.poller.wait_for_task`. The worker reads the event's payload with
    :func:`~.event.task_from_event`. A subclass sets the attributes.
    """

    mps_task_id: str
    mps_conn_id: str
    region: str | None
    poll_interval: float
    deferred_at: float | None
    deadline: float | None
    exponential_backoff = False
    max_wait: float | None = None

    def make_call(self, mps_task_id: str) -> ApiCall[MpsTask]:
        """Return the call that queries the task."""
        raise NotImplementedError

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and report the outcome."""
        outcome: MpsTask | AirflowException
        try:
            outcome = await self._wait()
        except (AirflowSensorTimeout, InvalidMpsConnectionError, InvalidRequestError, MpsApiError) as error:
            outcome = error
        else:
            self.log.info("Task %s: %s (RequestId %s)", outcome.task_id, outcome.status.value, outcome.request_id)
            if (end := await self.make_end_event(outcome)) is not None:
                yield end
                return
        await wait_for_worker_exit(self)
        yield TriggerEvent(event_from_outcome(outcome))

    async def make_end_event(self, task: MpsTask) -> TriggerEvent | None:
        """Return the event that ends the Airflow task without a worker; ``None`` if a worker resumes it."""
        return None

    async def on_kill(self) -> None:
        """Log that the task continues when a user ends the wait (Airflow 3.3)."""
        self.log.warning("Task %s continues at MPS and may be billed: MPS has no call to cancel it", self.mps_task_id)

    async def _wait(self) -> MpsTask:
        from airflow_provider_mps.polling.poller import wait_for_task

        now = time.time()
        interval = PollInterval(self.poll_interval, self.exponential_backoff, self.max_wait)
        first_poll_in = 0.0
        if self.deferred_at is not None:
            first_interval = interval.delay_after_polls(1, random.random())  # noqa: S311 - no secret
            first_poll_in = min(self.deferred_at - now, 0.0) + first_interval
        last_seen = LastSeen(self.deferred_at)
        try:
            async with asyncio.timeout(None if self.deadline is None else self.deadline - now) as limit:
                return await wait_for_task(
                    self.mps_task_id,
                    interval,
                    self.mps_conn_id,
                    self.region or None,
                    first_poll_in,
                    last_seen=last_seen,
                    make_call=self.make_call,
                    operator=type(self).__name__,
                    is_trigger=True,
                )
        except TimeoutError:
            if not limit.expired():
                raise
        # The worker adds which limit set the deadline.
        raise AirflowSensorTimeout(last_seen.describe(self.mps_task_id))


def serialize_trigger(trigger: BaseTrigger, cls: type[BaseTrigger]) -> tuple[str, dict[str, Any]]:
    """Return the path of a trigger's class, and the attributes named like its arguments."""
    names = [name for name in inspect.signature(cls).parameters if name != "asked_at"]
    return f"{cls.__module__}.{cls.__qualname__}", {name: getattr(trigger, name) for name in names}


async def wait_for_worker_exit(trigger: Any) -> None:
    """Wait until Airflow has seen the exit of the worker that deferred at the trigger's ``deferred_at``."""
    if trigger.deferred_at is not None and trigger.task_instance is not None:
        # At most the grace period, even if the worker's clock is ahead.
        await asyncio.sleep(min(trigger.deferred_at - time.time(), 0.0) + REQUEUE_GRACE_SECONDS)
