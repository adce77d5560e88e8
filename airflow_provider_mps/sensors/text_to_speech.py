"""Wait for a text-to-speech task."""

from __future__ import annotations

import random
import time
import warnings
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_mps.credential_gate import Grace
from airflow_provider_mps.errors import ErrorClass, MpsApiError, MpsPermanentError, refuses_credentials
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.intervals import MAX_DOUBLINGS, earlier_limit, spread
from airflow_provider_mps.links.text_to_speech import AudioSourceLink, QueryPageLink
from airflow_provider_mps.mapped_values import LiteralMappedValues
from airflow_provider_mps.older_airflow import TimeLimit
from airflow_provider_mps.redaction import mask_link
from airflow_provider_mps.triggers.event import event_of, finished_task
from airflow_provider_mps.triggers.report import LastSeen

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from airflow_provider_mps.text_to_speech import TextToSpeechTask


class TextToSpeechTaskSensor(TimeLimit, LiteralMappedValues, BaseSensorOperator):
    """
    Wait until a text-to-speech task of MPS has finished.

    While the task is ``processing`` the sensor waits: in ``reschedule`` mode, the default, or deferred, without holding
    a worker slot. When it is done, it returns ``{"TaskId", "Status", "AudioUrl", "VoiceId", "duration", "ExtInfo"}``
    with ``duration`` in seconds. https://www.tencentcloud.com/document/product/1041/79696

    A transient error, such as a dropped connection or a used-up quota, is logged and waited out until ``timeout`` or
    ``execution_timeout``, whichever ends first.

    :param mps_task_id: the ``TaskId``, as :class:`~.TextToSpeechOperator` returns it (templated)
    :param mps_conn_id: the connection, of type ``tencent_mps`` (templated)
    :param region: goes before the connection's own region (templated)
    :param mode: ``reschedule`` or ``poke``, where it is not deferrable
    :param deferrable: ask once, then wait in the triggerer, where all share one budget of requests; the default is
        Airflow's ``[operators] default_deferrable``
    :param start_from_trigger: do without that first question, and the worker that it takes; implies ``deferrable``
    :param end_from_trigger: succeed in the triggerer, without another worker; implies ``deferrable``
    :raises TextToSpeechTaskFailed: when MPS has failed the task; not retried
    :raises MpsPermanentError: when MPS refuses to answer for a reason that waiting cannot mend; not retried
    :raises InvalidRequestError: when there is no task id; not retried
    """

    template_fields: Sequence[str] = ("mps_task_id", "mps_conn_id", "region")
    operator_extra_links: Collection[BaseOperatorLink] = (AudioSourceLink(), QueryPageLink())
    ui_color = "#e7f0fd"

    def __init__(
        self,
        *,
        mps_task_id: str,
        mps_conn_id: str = MpsHook.default_conn_name,
        region: str | None = None,
        mode: str = "reschedule",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        start_from_trigger: bool = False,
        end_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(mode=mode, **kwargs)
        self.mps_task_id = mps_task_id
        self.mps_conn_id = mps_conn_id
        self.region = region
        self.deferrable = deferrable or start_from_trigger or end_from_trigger
        self.end_from_trigger = end_from_trigger and self._can_end_from_trigger()
        if start_from_trigger:
            self._start_from_trigger()
        self.audio_url: str | None = None
        self._throttled = False
        self._told_waiting = False
        self._started_at = time.time()
        self._grace = Grace()
        self._last_seen = LastSeen()

    @cached_property
    def hook(self) -> MpsHook:
        """The hook, kept over the pokes of one process."""
        return MpsHook(self.mps_conn_id, self.region)

    def execute(self, context: Context) -> Any:
        """Wait until the task has finished, and return what it tells."""
        self._started_at = time.time()
        wait = super().execute

        def wait_here() -> Any:
            try:
                return wait(context)
            except (AirflowSensorTimeout, AirflowTaskTimeout) as error:
                seen = self._last_seen.describe(self.mps_task_id)
                raise type(error)(f"{str(error).rstrip('.')}. {seen}.") from None

        return self._with_outcome(wait_here)

    def poke(self, context: Context) -> PokeReturnValue:
        """Ask MPS once."""
        self._throttled = False
        try:
            task = self.hook.describe_text_to_speech_task(self.mps_task_id)
        except MpsApiError as error:
            if isinstance(error, MpsPermanentError) and not self._waits_for_credentials(error):
                raise
            self._throttled = error.error_class is ErrorClass.THROTTLED
            self._last_seen.note_error(time.time(), str(error))
            self.log.warning("MPS could not be asked this time, still waiting: %s", error)
            return PokeReturnValue(is_done=False)
        self._grace.note_accepted()
        if not task.is_ready():
            self._last_seen.note_processing()
            # Once: a long wait would bury everything else.
            tell = self.log.debug if self._told_waiting or context.get("task_reschedule_count") else self.log.info
            tell("Task %s is processing (RequestId %s)", task.task_id, task.request_id)
            self._told_waiting = True
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._succeed(task))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on where the trigger, or Airflow's own timeout, has ended the waiting."""
        if next_method == "__fail__" and (next_kwargs or {}).get("error") == "Trigger timeout":
            timeout = AirflowSensorTimeout(f"Task {self.mps_task_id} was not done in the triggerer")
            next_method, next_kwargs = "execute_complete", {"event": event_of(timeout)}
        resume = super().resume_execution
        return self._with_outcome(lambda: resume(next_method, next_kwargs, context))

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Return what the task tells, or raise why there is nothing to tell, once the trigger has fired."""
        try:
            task = finished_task(event)
        except AirflowSensorTimeout as error:
            # It was asked for last up to one interval ago: what has been spoken, and billed, since is not given up.
            last = self.poke(context)
            if last.is_done:
                return last.xcom_value
            limit = earlier_limit(self.timeout, self.time_limit)
            seen = str(error) if self._last_seen.processing_at is None else self._last_seen.describe(self.mps_task_id)
            kind = AirflowTaskTimeout if limit.name == "execution_timeout" else AirflowSensorTimeout
            raise kind(f"{seen} when {limit} ended.") from None
        task.is_ready()
        return self._succeed(task)

    def _with_outcome(self, wait: Callable[[], Any]) -> Any:
        """Make the end by ``timeout`` and by ``execution_timeout`` the same in every mode."""
        vars(self).pop("operator_extra_links", None)
        try:
            return wait()
        except (AirflowSensorTimeout, AirflowTaskTimeout) as error:
            if self.soft_fail or self.never_fail:
                which = "soft_fail" if self.soft_fail else "never_fail"
                raise AirflowSkipException(f"Skipping due to {which} is set to True.") from error
            raise

    def _waits_for_credentials(self, error: MpsPermanentError) -> bool:
        """Return whether refused credentials are waited out: here, or in the triggerer."""
        if not refuses_credentials(error.code):
            return False
        if self.deferrable:
            return True
        # A rescheduled poke is a new process, which does not know for how long they have been refused.
        return not self.reschedule and self._grace.note_refused(time.monotonic()) > 0

    def _succeed(self, task: TextToSpeechTask) -> dict[str, Any]:
        self.log.info("Task %s has succeeded (RequestId %s)", task.task_id, task.request_id)
        mask_link(task.audio_url)
        self.audio_url = task.audio_url
        return task.to_xcom()

    def _get_next_poke_interval(
        self, started_at: datetime | float, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        """Return the seconds until the next poke; a deferrable sensor leaves it to the triggerer instead."""
        if self.deferrable or self.reschedule:
            # This attempt ends without a result: Airflow would push each link, and delete it before the next poke.
            self.operator_extra_links = ()
        if self.deferrable:
            self._defer(self.timeout - run_duration())
        if self.exponential_backoff:
            # Airflow's own doubling overflows after a thousand pokes.
            poke_count = min(poke_count, MAX_DOUBLINGS)
            backoff: float = super()._get_next_poke_interval(started_at, run_duration, poke_count)
            return backoff
        return spread(self.poke_interval, random.random(), throttled=self._throttled)  # noqa: S311 - no secret

    def _defer(self, seconds_left: float) -> NoReturn:
        from airflow_provider_mps.triggers.text_to_speech import HANDOVER, TextToSpeechTaskTrigger

        now, limit = time.time(), earlier_limit(self.timeout, self.execution_timeout)
        if limit.name == "execution_timeout":
            seconds_left = min(seconds_left, self._started_at + limit.seconds - now)
        self.defer(
            trigger=TextToSpeechTaskTrigger(
                **self._trigger_arguments(),
                asked_at=now,
                # Airflow's own timeout below is looked at every 15 seconds only, and by dag.test() never.
                deadline=now + seconds_left,
            ),
            method_name="execute_complete",
            # It, too, must not queue the task again before the worker has gone.
            timeout=timedelta(seconds=max(limit.seconds, HANDOVER)),
        )

    def _trigger_arguments(self) -> dict[str, Any]:
        return {
            "mps_task_id": self.mps_task_id,
            "mps_conn_id": self.mps_conn_id,
            "region": self.region,
            "poll_interval": self.poke_interval,
            "exponential_backoff": self.exponential_backoff,
            "max_wait": self.max_wait.total_seconds() if self.max_wait else None,
            "end_from_trigger": self.end_from_trigger,
        }

    def _can_end_from_trigger(self) -> bool:
        if self.outlets or not self.do_xcom_push:
            self._warn("end_from_trigger", "a triggerer neither updates outlets nor heeds do_xcom_push=False")
            return False
        return True

    def _start_from_trigger(self) -> None:
        from airflow.triggers.base import StartTriggerArgs

        arguments = self._trigger_arguments()
        arguments.update((name, _triggerers_template(arguments[name])) for name in self.template_fields)
        if obstacle := self._obstacle_to_starting(arguments):
            self._warn("start_from_trigger", obstacle)
            return
        self.start_from_trigger = True
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls="airflow_provider_mps.triggers.text_to_speech.TextToSpeechTaskTrigger",
            trigger_kwargs=arguments,
            next_method="execute_complete",
            timeout=timedelta(seconds=earlier_limit(self.timeout, self.execution_timeout).seconds),
        )

    def _obstacle_to_starting(self, arguments: Mapping[str, Any]) -> str | None:
        from airflow.providers.common.compat.sdk import XComArg
        from airflow.triggers.base import BaseTrigger

        if not hasattr(BaseTrigger, "render_template_fields"):
            return "Airflow renders no templates in the triggerer before 3.3"
        if self.get_closest_mapped_task_group() is not None:
            return "Airflow cannot start what is in a mapped task group in the triggerer"
        for value in arguments.values():
            if isinstance(value, XComArg) or ("xcom_pull" in str(value) and "map_indexes" not in str(value)):
                # Without it the triggerer would wait for an answer that never comes.
                return "a triggerer can pull XComs only by a template with xcom_pull(..., map_indexes=-1)"
        return None

    def _warn(self, argument: str, reason: str) -> None:
        warnings.warn(
            f"{argument} of task '{self.task_id}' has no effect: {reason}. A worker does it instead.",
            UserWarning,
            stacklevel=4,
        )


def _triggerers_template(value: Any) -> Any:
    """Return what a triggerer can render in place of another task's output."""
    operator, key = getattr(value, "operator", None), getattr(value, "key", None)
    if operator is None or key is None:
        return value
    return f"{{{{ ti.xcom_pull(task_ids={operator.task_id!r}, key={key!r}, map_indexes=-1) }}}}"
