"""Wait for a text-to-speech task in Airflow's triggerer."""

from __future__ import annotations

import asyncio
import random
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
from airflow_provider_mps.triggers.report import LastSeen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow.providers.common.compat.sdk import AirflowException

    from airflow_provider_mps.text_to_speech import TextToSpeechTask


HANDOVER = 10.0
"""
Seconds after which a task may be queued again: a worker's supervisor lingers up to 5 after its task has ended, and
Airflow fails a task of which it hears "success" while it is queued.
"""


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
    :param asked_at: when the worker that deferred has asked, in seconds since 1970; where none has, this asks at once
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
        asked_at: float | None = None,
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
        self.asked_at = asked_at
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
            "asked_at",
            "deadline",
            "end_from_trigger",
        )
        path = f"{TextToSpeechTaskTrigger.__module__}.{TextToSpeechTaskTrigger.__qualname__}"
        return path, {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and tell what came of it."""
        outcome: TextToSpeechTask | AirflowException
        try:
            outcome = await self._finished()
        except (AirflowSensorTimeout, InvalidMpsConnectionError, InvalidRequestError, MpsApiError) as error:
            outcome = error
        else:
            self.log.info("Task %s: %s (RequestId %s)", outcome.task_id, outcome.status.value, outcome.request_id)
            # A failure is the worker's: there it is logged, and not retried.
            if self.end_from_trigger and outcome.status is TaskStatus.SUCCESS and await self._pushed(outcome):
                from airflow.triggers.base import TaskSuccessEvent

                yield TaskSuccessEvent()
                return
        await worker_has_gone(self)
        yield TriggerEvent(event_of(outcome))

    async def on_kill(self) -> None:
        """Say what goes on, when a user has ended the waiting (Airflow 3.3): MPS has no call that would cancel it."""
        self.log.warning("Task %s goes on at MPS, and may be billed: MPS has no call to cancel it", self.mps_task_id)

    async def _finished(self) -> TextToSpeechTask:
        now = time.time()
        interval = PollInterval(self.poll_interval, self.exponential_backoff, self.max_wait)
        first_poll_in = 0.0
        if self.asked_at is not None:
            chance = random.random()  # noqa: S311 - no secret
            first_poll_in = min(self.asked_at - now, 0.0) + interval.after_answers(1, chance)
        last_seen = LastSeen(self.asked_at)
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
        # The worker knows which limit the deadline was, and adds it.
        raise AirflowSensorTimeout(last_seen.describe(self.mps_task_id))

    async def _pushed(self, task: TextToSpeechTask) -> bool:
        """Push what a worker would return; ``False`` where only a worker can."""
        waiting = self.task_instance
        if waiting is None:
            return False  # dag.test() knows no event but a plain one, and gives its triggers no task instance
        try:
            from airflow.sdk.execution_time.xcom import XCom

            from airflow_provider_mps.links.text_to_speech import triggered_links

            # Not in the event: Airflow would store the JSON of the value as a text.
            for key, value in {"return_value": task.to_xcom(), **triggered_links(task)}.items():
                await asyncio.to_thread(
                    XCom.set,
                    key=key,
                    value=value,
                    dag_id=waiting.dag_id,
                    task_id=waiting.task_id,
                    run_id=waiting.run_id,
                    map_index=waiting.map_index,
                )
        except Exception:
            self.log.warning("The XCom could not be pushed from the triggerer; a worker does it", exc_info=True)
            return False
        return True


async def worker_has_gone(trigger: Any) -> None:
    """Wait until Airflow has surely seen that the worker which deferred, at the trigger's ``asked_at``, has ended."""
    if trigger.asked_at is not None and trigger.task_instance is not None:
        # At most so long, whatever the clock of the worker says.
        await asyncio.sleep(min(trigger.asked_at - time.time(), 0.0) + HANDOVER)
