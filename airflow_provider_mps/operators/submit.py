"""The base of the operators that submit a text or the design of a voice to MPS."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowTaskTimeout,
    BaseOperator,
)

from airflow_provider_mps.exceptions import MpsApiError
from airflow_provider_mps.hooks.mps import make_hook
from airflow_provider_mps.version_compat import ExecutionTimeoutMixin, LiteralMappedValuesMixin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_mps.durable.submit import DurableSubmit, SubmitKind
    from airflow_provider_mps.hooks.mps import MpsHook
    from airflow_provider_mps.polling.intervals import PollInterval
    from airflow_provider_mps.speech.parsing import OnUnknown
    from airflow_provider_mps.speech.task import MpsTask
    from airflow_provider_mps.triggers.task import TaskTrigger


class SubmitOperator(ExecutionTimeoutMixin, LiteralMappedValuesMixin, BaseOperator):
    """
    Submit once over all attempts, and wait for the task of MPS, in the worker or in the triggerer.

    A subclass sets the attributes in its constructor, and implements :meth:`get_kind`, :meth:`make_trigger` and
    :meth:`finish`.
    """

    mps_conn_id: str
    region: str | None
    deferrable: bool
    poll_interval: float
    durable: bool
    on_unknown: OnUnknown
    _submit: DurableSubmit[Any] | None = None

    def __init__(self, **kwargs: Any) -> None:
        # Without this constructor, Airflow wraps BaseOperator's twice, and a mapped task lacks the attribute `inlets`.
        super().__init__(**kwargs)

    @cached_property
    def hook(self) -> MpsHook:
        """The hook, kept while this task runs."""
        return make_hook(self)

    def get_kind(self) -> SubmitKind[Any]:
        """Return what the operator submits."""
        raise NotImplementedError

    def make_trigger(self, task_id: str, **arguments: Any) -> TaskTrigger:
        """Return the trigger that waits for the task, with the arguments that all task triggers take."""
        raise NotImplementedError

    def finish(self, context: Context, task: MpsTask) -> str:
        """Return the operator's result for a task that has succeeded."""
        raise NotImplementedError

    def begin(self, context: Context) -> DurableSubmit[Any]:
        """Return the submit of this attempt, which :meth:`on_kill` cancels."""
        submit = self._submit = self._make_submit(context)
        if self.durable and not submit.has_store:
            self.log.info(
                "This Airflow has no task state store, which needs 3.3 or later: a retry or a clear may submit again"
            )
        return submit

    def wait(self, context: Context, task_id: str, interval: PollInterval) -> MpsTask:
        """Return the task once it has succeeded, or defer; raise its error if MPS has failed it."""
        if self.deferrable:
            self._defer(context, task_id)
        task = self._wait_in_worker(task_id, interval)
        self._log_success(task)
        return task

    def execute_complete(self, context: Context, event: Mapping[str, Any], mps_task_id: str | None = None) -> str:
        """Return the result after the trigger has fired; raise its error if there is none."""
        from airflow_provider_mps.polling.event import task_from_event

        submit = self._submit = self._make_submit(context)
        with submit.prevent_double_billing(mps_task_id):
            kind = self.get_kind()
            try:
                task = task_from_event(event, kind.task_class)
            except AirflowSensorTimeout as error:
                finished = self._find_finished_task(mps_task_id) if mps_task_id else None
                if finished is None:
                    message = f"{error} when execution_timeout ended."
                    if not submit.has_store:
                        raise AirflowFailException(f"{message} {kind.wording.not_retried}") from None
                    raise AirflowException(f"{message} A retry reconnects to the task.") from None
                task = finished
            self._log_success(task)
            return self.finish(context, task)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after the triggerer; if Airflow itself ended the wait, keep a retry from submitting again."""
        if next_method != "__fail__":
            return super().resume_execution(next_method, next_kwargs, context)
        ti = context["ti"]
        task_id = ti.xcom_pull(task_ids=self.task_id, key="TaskId", map_indexes=ti.map_index)
        with self._make_submit(context).prevent_double_billing(task_id or "(unknown TaskId)"):
            return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Send no request any more, and log which task continues at MPS, which has no call to cancel it."""
        if self._submit is None:
            return
        self._submit.cancel()
        if self._submit.pending_description:
            self.log.warning(
                "%s continues at MPS and may be billed: MPS has no call to cancel it", self._submit.pending_description
            )

    def _make_submit(self, context: Context) -> DurableSubmit[Any]:
        from airflow_provider_mps.durable.submit import DurableSubmit

        return DurableSubmit(self.get_kind(), self.hook, context, self.on_unknown, self.log, durable=self.durable)

    def _wait_in_worker(self, task_id: str, interval: PollInterval) -> MpsTask:
        from airflow_provider_mps.concurrency import EventLoopThread
        from airflow_provider_mps.polling.event import LastSeen
        from airflow_provider_mps.polling.poller import wait_for_task
        from airflow_provider_mps.polling.request_gate import ACCEPTED_CONN_IDS

        ACCEPTED_CONN_IDS.add(self.hook.mps_conn_id)  # MPS has just accepted a call with these credentials
        last_seen = LastSeen(time.time())
        make_call = self.get_kind().make_call
        loop = EventLoopThread(
            lambda: wait_for_task(
                task_id,
                interval,
                self.mps_conn_id,
                self.region or None,
                self.poll_interval,
                last_seen=last_seen,
                make_call=make_call,
                operator=type(self).__name__,
            )
        )
        try:
            return loop.run()
        except AirflowTaskTimeout as error:
            raise AirflowTaskTimeout(f"{str(error).rstrip('.')}. {last_seen.describe(task_id)}.") from None

    def _log_success(self, task: MpsTask) -> None:
        task.raise_for_status()
        self.log.info("Task %s has succeeded (RequestId %s)", task.task_id, task.request_id)

    def _defer(self, context: Context, task_id: str) -> NoReturn:
        from airflow_provider_mps.triggers.task import REQUEUE_GRACE_SECONDS

        limit = self.execution_timeout
        self.defer(
            trigger=self.make_trigger(
                task_id,
                mps_conn_id=self.mps_conn_id,
                region=self.region or None,
                poll_interval=self.poll_interval,
                deferred_at=time.time(),
                deadline=self.get_deadline(context),
            ),
            method_name="execute_complete",
            kwargs={"mps_task_id": task_id},
            # Airflow's own timeout takes over if the triggerer is gone. Its error cannot name the task.
            timeout=limit + timedelta(seconds=2 * REQUEUE_GRACE_SECONDS) if limit else None,
        )

    def _find_finished_task(self, task_id: str) -> MpsTask | None:
        """Query a task after a timeout: the last poll may be long ago, e.g. if no triggerer was running."""
        try:
            task = self.get_kind().describe(self.hook, task_id)
        except MpsApiError as error:
            self.log.warning("The last query of task %s failed: %s", task_id, error)
            return None
        return task if task.is_done else None
