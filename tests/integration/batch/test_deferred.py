"""A batch that waits in the triggerer."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowTaskTimeout,
    TaskDeferred,
)
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_mps.batch.lease import DestinationTakenError
from airflow_provider_mps.errors import DestinationError
from tests.batching import LINES, accepted, batch, context, line, run_batch, submits


def test_when_only_waiting_is_left_the_triggerer_does_it_and_then_the_rest_is_stored(app, manifest, clips):
    app.app.state.tasks._synthesis_time = (600, 600)
    lines = manifest(LINES)
    operator = batch(lines, clips.destination, deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context())
    _, arguments = deferred.value.trigger.serialize()
    assert sorted(arguments["mps_task_ids"]) == sorted(task.task_id for task in app.app.state.tasks._tasks.values())
    assert clips.statuses() == {"processing": LINES}
    with pytest.raises(DestinationTakenError, match=r"run 'run-1' \(try 1, deferred since"):
        run_batch(lines, clips.destination, "run-2")

    app.finish_all_tasks()
    # So long a poll_interval that a slow machine, too, has asked for all before it hands over again.
    told = batch(lines, clips.destination, deferrable=True, poll_interval=10).execute_complete(
        context(), {"finished": LINES, "timed_out": False}
    )
    assert told["stored"] == LINES
    assert submits(app) == LINES
    clips.require_true()


@pytest.mark.parametrize(
    ("method", "arguments", "error"),
    [
        ("execute_complete", {"event": {"timed_out": True}}, AirflowException),
        ("__fail__", {"error": "Trigger timeout"}, Exception),
    ],
)
def test_a_timeout_in_the_triggerer_may_be_retried_and_leaves_the_destination_to_others(
    app, manifest, clips, method, arguments, error
):
    app.app.state.tasks._synthesis_time = (600, 600)
    lines = manifest([line(0)])
    with pytest.raises(TaskDeferred):
        batch(lines, clips.destination, deferrable=True).execute(context())
    with pytest.raises(error) as caught:
        batch(lines, clips.destination, deferrable=True).resume_execution(method, arguments, context())
    assert not isinstance(caught.value, AirflowFailException)
    app.finish_all_tasks()
    assert run_batch(lines, clips.destination, "run-2")["stored"] == 1
    assert submits(app) == 1


def test_execution_timeout_counts_from_the_start_of_the_attempt_in_every_mode(app, manifest, clips):
    app.app.state.tasks._synthesis_time = (600, 600)
    lines = manifest([line(0)])
    limit = {"deferrable": True, "execution_timeout": timedelta(hours=1)}
    started = datetime.now(UTC) - timedelta(minutes=50)
    with pytest.raises(TaskDeferred) as deferred:
        batch(lines, clips.destination, **limit).execute(started_at(started))
    _, arguments = deferred.value.trigger.serialize()
    assert arguments["deadline"] == started.timestamp() + 3600
    assert 600 <= deferred.value.timeout.total_seconds() <= 660

    event = {"finished": 0, "timed_out": False}
    with pytest.raises(TaskDeferred) as deferred:
        batch(lines, clips.destination, **limit).execute_complete(started_at(started), event)
    assert deferred.value.trigger.deadline == started.timestamp() + 3600

    late = started_at(datetime.now(UTC) - timedelta(minutes=61))
    with pytest.raises(AirflowException, match="execution_timeout ended before all lines of this batch were stored"):
        batch(lines, clips.destination, **limit).execute_complete(late, event)
    # The destination is left to others.
    app.finish_all_tasks()
    assert run_batch(lines, clips.destination, "run-2")["stored"] == 1


def test_execution_timeout_that_ends_after_the_batch_has_resumed_ends_it(app, manifest, clips):
    app.app.state.tasks._synthesis_time = (600, 600)
    lines = manifest([line(0)])
    soon = started_at(datetime.now(UTC) - timedelta(hours=1) + timedelta(seconds=1))
    operator = batch(lines, clips.destination, execution_timeout=timedelta(hours=1))
    with pytest.raises(AirflowTaskTimeout, match="1:00:00 after this attempt had started"):
        operator.execute_complete(soon, {"finished": 0, "timed_out": False})
    assert set(clips.statuses()) <= {"pending", "processing"}
    app.finish_all_tasks()
    assert run_batch(lines, clips.destination, "run-2")["stored"] == 1
    assert set(accepted(app.app).values()) == {1}


def test_filesystem_that_does_not_replace_is_noticed_before_anything_is_billed(app, manifest, monkeypatch):
    def keep(fs, source, target, **options):
        if fs.exists(target):
            raise FileExistsError(target)
        return move(fs, source, target, **options)

    attach("memory", fs=MemoryFileSystem())
    move = MemoryFileSystem.mv
    monkeypatch.setattr(MemoryFileSystem, "mv", keep)
    with pytest.raises(DestinationError, match="does not replace files"):
        run_batch(manifest([line(0)]), f"memory:///{uuid.uuid4()}")
    assert submits(app) == 0


def started_at(moment):
    made = context()
    made["ti"].start_date = moment
    return made
