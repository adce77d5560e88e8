"""Wait for the design of a voice in Airflow's triggerer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.triggers.task import TaskTrigger, serialize_trigger

if TYPE_CHECKING:
    from airflow_provider_mps.api.actions import ApiCall
    from airflow_provider_mps.speech.task import MpsTask


class VoiceDesignTaskTrigger(TaskTrigger):
    """
    Fire once, when the design of a voice has finished or can no longer be polled.

    Triggers of one connection and region in a triggerer share one rate limit; see :class:`~.task.TaskTrigger`.
    https://www.tencentcloud.com/document/api/1041/79694

    :param mps_task_id: the ``TaskId``
    :param mps_conn_id: the connection, of type ``tencent_mps``
    :param region: overrides the connection's region
    :param poll_interval: seconds between two polls, as far as the connection's rate limit allows
    :param deferred_at: when the worker deferred, in seconds since 1970; default: poll at once
    :param deadline: when to stop waiting, in seconds since 1970; default: never
    """

    def __init__(
        self,
        mps_task_id: str,
        mps_conn_id: str = MpsHook.default_conn_name,
        region: str | None = None,
        poll_interval: float = 10.0,
        *,
        deferred_at: float | None = None,
        deadline: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mps_task_id = mps_task_id
        self.mps_conn_id = mps_conn_id
        self.region = region
        self.poll_interval = poll_interval
        self.deferred_at = deferred_at
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, from which Airflow recreates this trigger."""
        return serialize_trigger(self, VoiceDesignTaskTrigger)

    def make_call(self, mps_task_id: str) -> ApiCall[MpsTask]:
        """Return the call that queries the task."""
        from airflow_provider_mps.api.voice_actions import make_describe_design_call

        return make_describe_design_call(mps_task_id)
