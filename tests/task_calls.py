"""Run one attempt of a task as Airflow's worker does, and record its calls to Airflow's API."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import structlog
from airflow.sdk.api.datamodels._generated import DagRun, TIRunContext
from airflow.sdk.execution_time import comms, task_runner

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LOCAL_MESSAGES = {"MaskSecret"}
"""Messages that the supervisor handles without a call to the API server."""


class Supervisor:
    """Respond to the messages of a task, and record their names."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.xcoms: dict[str, Any] = {}

    def send(self, msg: Any, **_: Any) -> Any:
        name = type(msg).__name__
        if name not in LOCAL_MESSAGES:
            self.calls.append(name)
        if isinstance(msg, comms.SetXCom):
            self.xcoms[msg.key] = msg.value
        if isinstance(msg, comms.GetXCom):
            return comms.XComResult(key=msg.key, value=self.xcoms.get(msg.key))
        if isinstance(msg, comms.GetTaskRescheduleStartDate):
            return comms.TaskRescheduleStartDate(start_date=datetime.now(UTC))
        return None


def run_attempt(task: Any, monkeypatch: Any) -> tuple[str, Supervisor]:
    """
    Run a task's attempt until it ends, is rescheduled or defers.

    :return: the final state, and the supervisor with the recorded calls
    """
    supervisor = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    run = DagRun(
        dag_id=task.dag_id,
        run_id="run",
        run_after=NOW,
        start_date=NOW,
        run_type="manual",
        state="running",
        conf={},
        consumed_asset_events=[],
        logical_date=NOW,
        data_interval_start=NOW,
        data_interval_end=NOW,
        end_date=None,
        partition_key=None,
    )
    ti = task_runner.RuntimeTaskInstance.model_construct(
        id=uuid.uuid4(),
        task_id=task.task_id,
        dag_id=task.dag_id,
        run_id="run",
        try_number=1,
        map_index=-1,
        dag_version_id=uuid.uuid4(),
        hostname="worker",
        task=task,
        max_tries=0,
        start_date=NOW,
        state="running",
        is_mapped=False,
        rendered_map_index=None,
        context_carrier={},
        end_date=None,
        queue="default",
        bundle_instance=None,
        sentry_integration="",
    )
    ti._ti_context_from_server = TIRunContext(
        dag_run=run, task_reschedule_count=1, max_tries=0, xcom_keys_to_clear=[], should_retry=False
    )
    context, log = ti.get_template_context(), structlog.get_logger("task")
    state, _, error = task_runner.run(ti, context, log)
    task_runner.finalize(ti, state, context, log, error)
    return str(state.value), supervisor
