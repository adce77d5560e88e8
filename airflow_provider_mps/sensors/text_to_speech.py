"""Wait for a text-to-speech task in a worker or in the triggerer."""

from __future__ import annotations

import random
import time
import warnings
from contextlib import contextmanager
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

from airflow_provider_mps.error_codes import ErrorClass, is_credential_error
from airflow_provider_mps.exceptions import MpsApiError, MpsPermanentError
from airflow_provider_mps.hooks.mps import MpsHook, make_hook
from airflow_provider_mps.links.text_to_speech import AudioSourceLink, QueryPageLink
from airflow_provider_mps.polling.event import LastSeen, event_from_outcome, task_from_event
from airflow_provider_mps.polling.intervals import (
    MAX_DOUBLINGS,
    CredentialGracePeriod,
    add_jitter,
    get_earlier_limit,
)
from airflow_provider_mps.redaction import mask_signed_url
from airflow_provider_mps.version_compat import ExecutionTimeoutMixin, LiteralMappedValuesMixin

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from airflow_provider_mps.speech.task import MpsTask


class TextToSpeechTaskSensor(ExecutionTimeoutMixin, LiteralMappedValuesMixin, BaseSensorOperator):
    """
    Wait until a text-to-speech task of MPS has finished.

    It returns ``{"TaskId", "Status", "AudioUrl", "VoiceId", "duration", "ExtInfo"}``, with ``duration`` in seconds.
    In ``reschedule`` mode, the default, and when deferred it holds no worker slot while it waits. A transient error,
    such as a dropped connection or a used-up quota, is logged, and the sensor waits on until ``timeout`` or
    ``execution_timeout``. https://www.tencentcloud.com/document/product/1041/79696

    :param mps_task_id: the ``TaskId``, as :class:`~.TextToSpeechOperator` returns it (templated)
    :param mps_conn_id: the connection, of type ``tencent_mps`` (templated)
    :param region: overrides the connection's region (templated)
    :param mode: ``reschedule`` or ``poke``, if the sensor is not deferrable
    :param deferrable: poll once, then wait in the triggerer, where all waits on a connection share its rate limit;
        default: Airflow's ``[operators] default_deferrable``
    :param start_from_trigger: start in the triggerer, without that first poll by a worker; implies ``deferrable``
    :param end_from_trigger: succeed in the triggerer, without another worker; implies ``deferrable``
    :raises TextToSpeechTaskFailed: if the task has failed at MPS; not retried
    :raises MpsPermanentError: if MPS rejects the poll for a reason that waiting cannot fix; not retried
    :raises InvalidMpsConnectionError: if the connection is missing or must be fixed; not retried
    :raises InvalidRequestError: if the task id is missing; not retried
    :raises AirflowSensorTimeout: if ``timeout`` ends; not retried
    :raises AirflowTaskTimeout: if ``execution_timeout`` ends
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
        self._has_logged_processing = False
        self._started_at = time.time()
        self._grace_period = CredentialGracePeriod()
        self._last_seen = LastSeen()

    @cached_property
    def hook(self) -> MpsHook:
        """The hook, which all pokes of one process share."""
        return make_hook(self)

    def execute(self, context: Context) -> Any:
        """Wait until the task has finished, and return its result."""
        self._started_at = time.time()
        with self._skip_on_timeout():
            try:
                return super().execute(context)
            except (AirflowSensorTimeout, AirflowTaskTimeout) as error:
                description = self._last_seen.describe(self.mps_task_id)
                raise type(error)(f"{str(error).rstrip('.')}. {description}.") from None

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll the task once."""
        self._throttled = False
        try:
            task = self.hook.describe_text_to_speech_task(self.mps_task_id)
        except MpsApiError as error:
            if isinstance(error, MpsPermanentError) and not self._can_wait_for_credentials(error):
                raise
            self._throttled = error.error_class is ErrorClass.THROTTLED
            self._last_seen.record_error(time.time(), str(error))
            self.log.warning("Polling MPS task %s failed, will poll again: %s", self.mps_task_id, error)
            return PokeReturnValue(is_done=False)
        self._grace_period.record_acceptance()
        task.raise_for_status()
        if not task.is_done:
            self._last_seen.record_processing()
            # At level info once only: a long wait would fill the log.
            is_logged = self._has_logged_processing or context.get("task_reschedule_count")
            log = self.log.debug if is_logged else self.log.info
            log("Task %s is processing (RequestId %s)", task.task_id, task.request_id)
            self._has_logged_processing = True
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._succeed(task))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after the trigger has fired, or after Airflow's own timeout."""
        if next_method == "__fail__" and (next_kwargs or {}).get("error") == "Trigger timeout":
            timeout = AirflowSensorTimeout(f"Task {self.mps_task_id} had not finished in the triggerer")
            next_method, next_kwargs = "execute_complete", {"event": event_from_outcome(timeout)}
        with self._skip_on_timeout():
            return super().resume_execution(next_method, next_kwargs, context)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Return the result that the trigger reports, or raise its error."""
        try:
            task = task_from_event(event)
        except AirflowSensorTimeout as error:
            # The last poll is up to one interval old: the task may have finished since.
            last = self.poke(context)
            if last.is_done:
                return last.xcom_value
            limit = get_earlier_limit(self.timeout, self.time_limit)
            is_newer = self._last_seen.processing_at is not None
            description = self._last_seen.describe(self.mps_task_id) if is_newer else str(error)
            timeout_error = AirflowTaskTimeout if limit.name == "execution_timeout" else AirflowSensorTimeout
            raise timeout_error(f"{description} when {limit} ended.") from None
        task.raise_for_status()
        return self._succeed(task)

    @contextmanager
    def _skip_on_timeout(self) -> Iterator[None]:
        """Apply ``soft_fail`` and ``never_fail`` to either timeout, the same in every mode."""
        vars(self).pop("operator_extra_links", None)
        try:
            yield
        except (AirflowSensorTimeout, AirflowTaskTimeout) as error:
            if self.soft_fail or self.never_fail:
                flag = "soft_fail" if self.soft_fail else "never_fail"
                raise AirflowSkipException(f"Skipping due to {flag} is set to True.") from error
            raise

    def _can_wait_for_credentials(self, error: MpsPermanentError) -> bool:
        """Return whether MPS rejected the credentials, and their grace period applies."""
        if not is_credential_error(error.code):
            return False
        if self.deferrable:
            return True  # the trigger measures the grace period
        # A rescheduled poke is a new process, which cannot measure it.
        return not self.reschedule and self._grace_period.record_rejection(time.monotonic()) > 0

    def _succeed(self, task: MpsTask) -> dict[str, Any]:
        self.log.info("Task %s has succeeded (RequestId %s)", task.task_id, task.request_id)
        mask_signed_url(task.audio_url)
        self.audio_url = task.audio_url
        return task.to_xcom()

    def _get_next_poke_interval(
        self, started_at: datetime | float, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        """Return the seconds until the next poke; a deferrable sensor defers instead."""
        if self.deferrable or self.reschedule:
            # This process ends without a result: Airflow would push each link, and delete it before the next poke.
            self.operator_extra_links = ()
        if self.deferrable:
            self._defer(self.timeout - run_duration())
        if self.exponential_backoff:
            # Airflow's own exponential backoff overflows after a thousand pokes.
            poke_count = min(poke_count, MAX_DOUBLINGS)
            backoff: float = super()._get_next_poke_interval(started_at, run_duration, poke_count)
            return backoff
        return add_jitter(self.poke_interval, random.random(), throttled=self._throttled)  # noqa: S311 - no secret

    def _defer(self, seconds_left: float) -> NoReturn:
        from airflow_provider_mps.triggers.task import REQUEUE_GRACE_SECONDS
        from airflow_provider_mps.triggers.text_to_speech import TextToSpeechTaskTrigger

        now, limit = time.time(), get_earlier_limit(self.timeout, self.execution_timeout)
        if limit.name == "execution_timeout":
            seconds_left = min(seconds_left, self._started_at + limit.seconds - now)
        self.defer(
            trigger=TextToSpeechTaskTrigger(
                **self._trigger_arguments(),
                deferred_at=now,
                # Airflow checks its own timeout below every 15 seconds only, and in dag.test() never.
                deadline=now + seconds_left,
            ),
            method_name="execute_complete",
            # Airflow's timeout, too, must not queue the task again before the worker's exit.
            timeout=timedelta(seconds=max(limit.seconds, REQUEUE_GRACE_SECONDS)),
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
        from airflow.triggers.base import BaseTrigger

        if not hasattr(BaseTrigger, "render_template_fields"):
            # A trigger that pushes an XCom may stop all triggers: https://github.com/apache/airflow/issues/64620
            self._warn("end_from_trigger", "a triggerer of Airflow before 3.3 cannot push XComs safely")
            return False
        if self.outlets or not self.do_xcom_push:
            self._warn("end_from_trigger", "a triggerer neither updates outlets nor respects do_xcom_push=False")
            return False
        return True

    def _start_from_trigger(self) -> None:
        from airflow.triggers.base import StartTriggerArgs

        arguments = self._trigger_arguments()
        arguments.update((name, _make_triggerer_template(arguments[name])) for name in self.template_fields)
        if reason := self._get_start_obstacle(arguments):
            self._warn("start_from_trigger", reason)
            return
        self.start_from_trigger = True
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls="airflow_provider_mps.triggers.text_to_speech.TextToSpeechTaskTrigger",
            trigger_kwargs=arguments,
            next_method="execute_complete",
            timeout=timedelta(seconds=get_earlier_limit(self.timeout, self.execution_timeout).seconds),
        )

    def _get_start_obstacle(self, arguments: Mapping[str, Any]) -> str | None:
        from airflow.providers.common.compat.sdk import XComArg
        from airflow.triggers.base import BaseTrigger

        if not hasattr(BaseTrigger, "render_template_fields"):
            return "Airflow before 3.3 renders no templates in the triggerer"
        if self.get_closest_mapped_task_group() is not None:
            return "Airflow cannot start a task of a mapped task group in the triggerer"
        for value in arguments.values():
            if isinstance(value, XComArg) or ("xcom_pull" in str(value) and "map_indexes" not in str(value)):
                # Without map_indexes, the triggerer would wait forever for a response of its supervisor.
                return "a triggerer can pull XComs only in a template with xcom_pull(..., map_indexes=-1)"
        return None

    def _warn(self, argument: str, reason: str) -> None:
        warnings.warn(
            f"{argument} of task '{self.task_id}' has no effect: {reason}. A worker does it instead.",
            UserWarning,
            stacklevel=4,
        )


def _make_triggerer_template(value: Any) -> Any:
    """Return a template that a triggerer can render, if the value is another task's output."""
    operator, key = getattr(value, "operator", None), getattr(value, "key", None)
    if operator is None or key is None:
        return value
    return f"{{{{ ti.xcom_pull(task_ids={operator.task_id!r}, key={key!r}, map_indexes=-1) }}}}"
