"""Wait for a text-to-speech task."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseSensorOperator, PokeReturnValue

from airflow_provider_mps.errors import MpsApiError, MpsPermanentError
from airflow_provider_mps.hooks.mps import MpsHook

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context


class TextToSpeechTaskSensor(BaseSensorOperator):
    """
    Wait until a text-to-speech task of MPS has finished.

    While the task is ``processing`` the sensor waits: in ``reschedule`` mode, the default, without holding a
    worker slot. When it is done, it returns ``{"TaskId", "Status", "AudioUrl", "VoiceId", "duration", "ExtInfo"}``
    with ``duration`` in seconds. https://www.tencentcloud.com/document/product/1041/79696

    An error that another try may mend, such as a dropped connection or a used-up quota, is logged and waited out
    until ``timeout``.

    :param mps_task_id: the ``TaskId``, as :class:`~.TextToSpeechOperator` returns it (templated)
    :param mps_conn_id: the connection, of type ``tencent_mps`` (templated)
    :param region: goes before the connection's own region (templated)
    :param mode: ``reschedule`` or ``poke``
    :raises TextToSpeechTaskFailed: when MPS has failed the task; not retried
    :raises MpsPermanentError: when MPS refuses to answer for a reason that waiting cannot mend; not retried
    :raises InvalidRequestError: when there is no task id; not retried
    """

    template_fields: Sequence[str] = ("mps_task_id", "mps_conn_id", "region")
    ui_color = "#e7f0fd"

    def __init__(
        self,
        *,
        mps_task_id: str,
        mps_conn_id: str = MpsHook.default_conn_name,
        region: str | None = None,
        mode: str = "reschedule",
        **kwargs: Any,
    ) -> None:
        super().__init__(mode=mode, **kwargs)
        self.mps_task_id = mps_task_id
        self.mps_conn_id = mps_conn_id
        self.region = region

    @cached_property
    def hook(self) -> MpsHook:
        """The hook, kept over the pokes of one process."""
        return MpsHook(self.mps_conn_id, self.region)

    def poke(self, context: Context) -> PokeReturnValue:
        """Ask MPS once."""
        try:
            task = self.hook.describe_text_to_speech_task(self.mps_task_id)
        except MpsPermanentError:
            raise
        except MpsApiError as error:
            self.log.warning("MPS could not be asked this time, still waiting: %s", error)
            return PokeReturnValue(is_done=False)
        if not task.is_ready():
            self.log.info("Task %s is processing (RequestId %s)", task.task_id, task.request_id)
            return PokeReturnValue(is_done=False)
        self.log.info("Task %s has succeeded (RequestId %s)", task.task_id, task.request_id)
        return PokeReturnValue(is_done=True, xcom_value=task.to_xcom())
