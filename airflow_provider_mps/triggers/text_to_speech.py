"""Wait for a text-to-speech task in Airflow's triggerer."""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSensorTimeout
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_mps.exceptions import InvalidMpsConnectionError, InvalidRequestError, MpsApiError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.polling.event import LastSeen, event_from_outcome
from airflow_provider_mps.polling.intervals import PollInterval
from airflow_provider_mps.speech.task import TaskStatus
from airflow_provider_mps.version_compat import can_call_airflow_in_threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow.providers.common.compat.sdk import AirflowException

    from airflow_provider_mps.speech.task import TextToSpeechTask


REQUEUE_GRACE_SECONDS = 10.0
"""
Seconds after a deferral before which the task must not be queued again.

A worker's supervisor exits up to 5 s after its task. Airflow fails a task whose "success" arrives while it is queued.
"""


class TextToSpeechTaskTrigger(BaseTrigger):
    """
    Fire once, when a text-to-speech task has finished or can no longer be polled.

    All triggers of one connection and region in a triggerer share one poll loop, one client and one rate limit; see
    :func:`~.poller.wait_for_task`. https://www.tencentcloud.com/document/product/1041/79696

    The worker reads the event's payload with :func:`~.event.task_from_event`.

    :param mps_task_id: the ``TaskId``
    :param mps_conn_id: the connection, of type ``tencent_mps``
    :param region: overrides the connection's region
    :param poll_interval: seconds between two polls, as far as the connection's rate limit allows
    :param exponential_backoff: double the interval with every poll, with jitter
    :param max_wait: longest interval in seconds with exponential backoff; default: no maximum
    :param deferred_at: when the worker deferred, in seconds since 1970; default: poll at once
    :param deadline: when to stop waiting, in seconds since 1970; default: never
    :param end_from_trigger: end a successful task in the triggerer, without another worker
    :param asked_at: ``deferred_at`` of a task that version 1.0 deferred
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
        deferred_at: float | None = None,
        deadline: float | None = None,
        end_from_trigger: bool = False,
        asked_at: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mps_task_id = mps_task_id
        self.mps_conn_id = mps_conn_id
        self.region = region
        self.poll_interval = poll_interval
        self.exponential_backoff = exponential_backoff
        self.max_wait = max_wait
        self.deferred_at = asked_at if deferred_at is None else deferred_at
        self.deadline = deadline
        self.end_from_trigger = end_from_trigger

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, from which Airflow recreates this trigger."""
        return serialize_trigger(self, TextToSpeechTaskTrigger)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and report the outcome."""
        outcome: TextToSpeechTask | AirflowException
        try:
            outcome = await self._wait()
        except (AirflowSensorTimeout, InvalidMpsConnectionError, InvalidRequestError, MpsApiError) as error:
            outcome = error
        else:
            self.log.info("Task %s: %s (RequestId %s)", outcome.task_id, outcome.status.value, outcome.request_id)
            # A failed task goes to a worker, which logs it and does not retry.
            if self.end_from_trigger and outcome.status is TaskStatus.SUCCESS and await self._push_xcoms(outcome):
                from airflow.triggers.base import TaskSuccessEvent

                yield TaskSuccessEvent()
                return
        await wait_for_worker_exit(self)
        yield TriggerEvent(event_from_outcome(outcome))

    async def on_kill(self) -> None:
        """Log that the task continues when a user ends the wait (Airflow 3.3)."""
        self.log.warning("Task %s continues at MPS and may be billed: MPS has no call to cancel it", self.mps_task_id)

    async def _wait(self) -> TextToSpeechTask:
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
                )
        except TimeoutError:
            if not limit.expired():
                raise
        # The worker adds which limit set the deadline.
        raise AirflowSensorTimeout(last_seen.describe(self.mps_task_id))

    async def _push_xcoms(self, task: TextToSpeechTask) -> bool:
        """Push what a worker would push; return ``False`` if only a worker can."""
        task_instance = self.task_instance
        # dag.test() gives triggers no task instance, and handles plain events only.
        if task_instance is None or not can_call_airflow_in_threads():
            return False
        try:
            from airflow.sdk.execution_time.xcom import XCom

            from airflow_provider_mps.links.text_to_speech import get_links_by_xcom_key

            # Not in the event: Airflow would store the value's JSON as a string.
            for key, value in {"return_value": task.to_xcom(), **get_links_by_xcom_key(task)}.items():
                await asyncio.to_thread(
                    XCom.set,
                    key=key,
                    value=value,
                    dag_id=task_instance.dag_id,
                    task_id=task_instance.task_id,
                    run_id=task_instance.run_id,
                    map_index=task_instance.map_index,
                )
        except Exception:
            self.log.warning("Pushing XComs from the triggerer failed. A worker does it instead", exc_info=True)
            return False
        return True


def serialize_trigger(trigger: BaseTrigger, cls: type[BaseTrigger]) -> tuple[str, dict[str, Any]]:
    """Return the path of a trigger's class, and the attributes named like its arguments."""
    names = [name for name in inspect.signature(cls).parameters if name != "asked_at"]
    return f"{cls.__module__}.{cls.__qualname__}", {name: getattr(trigger, name) for name in names}


async def wait_for_worker_exit(trigger: Any) -> None:
    """Wait until Airflow has seen the exit of the worker that deferred at the trigger's ``deferred_at``."""
    if trigger.deferred_at is not None and trigger.task_instance is not None:
        # At most the grace period, even if the worker's clock is ahead.
        await asyncio.sleep(min(trigger.deferred_at - time.time(), 0.0) + REQUEUE_GRACE_SECONDS)
