"""Wait for a text-to-speech task in Airflow's triggerer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.speech.task import TaskStatus
from airflow_provider_mps.triggers.task import TaskTrigger, serialize_trigger
from airflow_provider_mps.version_compat import can_call_airflow_in_threads

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent

    from airflow_provider_mps.api.actions import ApiCall
    from airflow_provider_mps.speech.task import MpsTask


class TextToSpeechTaskTrigger(TaskTrigger):
    """
    Fire once, when a text-to-speech task has finished or can no longer be polled.

    Triggers of one connection and region in a triggerer share one rate limit; see :class:`~.task.TaskTrigger`.
    https://www.tencentcloud.com/document/product/1041/79696

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

    def make_call(self, mps_task_id: str) -> ApiCall[MpsTask]:
        """Return the call that queries the task."""
        from airflow_provider_mps.api.actions import make_describe_call

        return make_describe_call(mps_task_id)

    async def make_end_event(self, task: MpsTask) -> TriggerEvent | None:
        """Push the XComs of a successful task and end it here, if requested; a worker logs and raises a failure."""
        if self.end_from_trigger and task.status is TaskStatus.SUCCESS and await self._push_xcoms(task):
            from airflow.triggers.base import TaskSuccessEvent

            return TaskSuccessEvent()
        return None

    async def _push_xcoms(self, task: MpsTask) -> bool:
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
