"""Wait for a text-to-speech task in Airflow's triggerer."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSensorTimeout
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_mps.errors import InvalidMpsConnectionError, InvalidRequestError, MpsApiError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.intervals import PollInterval
from airflow_provider_mps.text_to_speech import TaskStatus
from airflow_provider_mps.triggers.event import event_of
from airflow_provider_mps.triggers.poller import wait_for_task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_mps.text_to_speech import TextToSpeechTask


class TextToSpeechTaskTrigger(BaseTrigger):
    """
    Fire once, when a text-to-speech task has finished or can no longer be waited for.

    All triggers of one connection and region in a triggerer share one poll loop, one client and one budget of requests;
    see :func:`~.poller.wait_for_task`. https://www.tencentcloud.com/document/product/1041/79696

    The event's payload is for :func:`~.event.finished_task`: the worker decides what it means.

    :param mps_task_id: the ``TaskId``
    :param mps_conn_id: the connection, of type ``tencent_mps``
    :param region: goes before the connection's own region
    :param poll_interval: seconds between two questions, as far as the connection's budget allows
    :param exponential_backoff: double ``poll_interval`` with every answer, with jitter
    :param max_wait: seconds that doubling never exceeds
    :param first_poll_at: when to ask first, in seconds since 1970; at once where it is not given or has passed
    :param deadline: when to give up, in seconds since 1970
    :param end_from_trigger: end the task in the triggerer where it has succeeded, without another worker
    """

    def __init__(
        self,
        mps_task_id: str,
        mps_conn_id: str = MpsHook.default_conn_name,
        region: str | None = None,
        poll_interval: float = 10.0,
        *,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
        first_poll_at: float | None = None,
        deadline: float | None = None,
        end_from_trigger: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mps_task_id = mps_task_id
        self.mps_conn_id = mps_conn_id
        self.region = region
        self.poll_interval = poll_interval
        self.exponential_backoff = exponential_backoff
        self.max_wait = max_wait
        self.first_poll_at = first_poll_at
        self.deadline = deadline
        self.end_from_trigger = end_from_trigger

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow needs to make this trigger anew."""
        names = (
            "mps_task_id",
            "mps_conn_id",
            "region",
            "poll_interval",
            "exponential_backoff",
            "max_wait",
            "first_poll_at",
            "deadline",
            "end_from_trigger",
        )
        path = f"{TextToSpeechTaskTrigger.__module__}.{TextToSpeechTaskTrigger.__qualname__}"
        return path, {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and tell what came of it."""
        try:
            task = await self._finished()
        except (AirflowSensorTimeout, InvalidMpsConnectionError, InvalidRequestError, MpsApiError) as error:
            yield TriggerEvent(event_of(error))
            return
        self.log.info("Task %s: %s (RequestId %s)", task.task_id, task.status.value, task.request_id)
        if self._may_end(task):
            from airflow.triggers.base import TaskSuccessEvent  # not in every Airflow

            yield TaskSuccessEvent(xcoms={"return_value": task.to_xcom()})
        else:
            yield TriggerEvent(event_of(task))

    async def _finished(self) -> TextToSpeechTask:
        now = time.time()
        try:
            async with asyncio.timeout(None if self.deadline is None else self.deadline - now) as limit:
                return await wait_for_task(
                    self.mps_task_id,
                    PollInterval(self.poll_interval, self.exponential_backoff, self.max_wait),
                    self.mps_conn_id,
                    self.region or None,
                    first_poll_in=(self.first_poll_at or now) - now,
                )
        except TimeoutError:
            if not limit.expired():
                raise
        raise AirflowSensorTimeout(f"Task {self.mps_task_id} was still processing when the sensor's timeout ended.")

    def _may_end(self, task: TextToSpeechTask) -> bool:
        """Tell whether this trigger may end the Airflow task: only success, and only where a triggerer runs it."""
        # A failure is the worker's: there it is logged, and not retried. dag.test() runs triggers without an id, and
        # knows no event but a plain one.
        return self.end_from_trigger and task.status is TaskStatus.SUCCESS and self.trigger_id is not None
