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

from airflow_provider_mps.exceptions import DestinationError, DestinationLockedError
from tests.batching import LINES, accepted, batch, context, line, run_batch, submits


def test_batch_with_only_waiting_left_defers_then_stores_the_rest(app, manifest, clips):
    app.app.state.tasks._synthesis_time = (600, 600)
    lines = manifest(LINES)
    operator = batch(lines, clips.destination, deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context())
    _, arguments = deferred.value.trigger.serialize()
    assert sorted(arguments["mps_task_ids"]) == sorted(task.task_id for task in app.app.state.tasks._tasks.values())
    assert clips.statuses() == {"processing": LINES}
    with pytest.raises(DestinationLockedError, match=r"run 'run-1' \(try 1, deferred since"):
        run_batch(lines, clips.destination, "run-2")

    app.finish_all_tasks()
    # A poll_interval long enough for a slow machine to poll all tasks before the batch defers again.
    result = batch(lines, clips.destination, deferrable=True, poll_interval=10).execute_complete(
        context(), {"finished": LINES, "timed_out": False}
    )
    assert result["stored"] == LINES
    assert submits(app) == LINES
    clips.require_true()


@pytest.mark.parametrize(
    ("method", "arguments", "error"),
    [
        ("execute_complete", {"event": {"timed_out": True}}, AirflowException),
        ("__fail__", {"error": "Trigger timeout"}, Exception),
    ],
)
def test_timeout_in_triggerer_is_retriable_and_releases_the_lock(app, manifest, clips, method, arguments, error):
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


def test_execution_timeout_counts_from_the_start_of_the_attempt(app, manifest, clips):
    app.app.state.tasks._synthesis_time = (600, 600)
    lines = manifest([line(0)])
    limit = {"deferrable": True, "execution_timeout": timedelta(hours=1)}
    started = datetime.now(UTC) - timedelta(minutes=50)
    with pytest.raises(TaskDeferred) as deferred:
        batch(lines, clips.destination, **limit).execute(make_context(started))
    _, arguments = deferred.value.trigger.serialize()
    assert arguments["deadline"] == started.timestamp() + 3600
    assert 600 <= deferred.value.timeout.total_seconds() <= 660

    event = {"finished": 0, "timed_out": False}
    with pytest.raises(TaskDeferred) as deferred:
        batch(lines, clips.destination, **limit).execute_complete(make_context(started), event)
    assert deferred.value.trigger.deadline == started.timestamp() + 3600

    late = make_context(datetime.now(UTC) - timedelta(minutes=61))
    with pytest.raises(AirflowException, match="execution_timeout ended before all lines of this batch were stored"):
        batch(lines, clips.destination, **limit).execute_complete(late, event)
    # The destination is released.
    app.finish_all_tasks()
    assert run_batch(lines, clips.destination, "run-2")["stored"] == 1


def test_execution_timeout_after_resuming_ends_the_batch(app, manifest, clips):
    app.app.state.tasks._synthesis_time = (600, 600)
    lines = manifest([line(0)])
    soon = make_context(datetime.now(UTC) - timedelta(hours=1) + timedelta(seconds=1))
    operator = batch(lines, clips.destination, execution_timeout=timedelta(hours=1))
    with pytest.raises(AirflowTaskTimeout, match="1:00:00 after this attempt had started"):
        operator.execute_complete(soon, {"finished": 0, "timed_out": False})
    assert set(clips.statuses()) <= {"pending", "processing"}
    app.finish_all_tasks()
    assert run_batch(lines, clips.destination, "run-2")["stored"] == 1
    assert set(accepted(app.app).values()) == {1}


def test_filesystem_without_replace_fails_before_billing(app, manifest, monkeypatch):
    def move_without_replacing(fs, source, target, **options):
        if fs.exists(target):
            raise FileExistsError(target)
        return move(fs, source, target, **options)

    attach("memory", fs=MemoryFileSystem())
    move = MemoryFileSystem.mv
    monkeypatch.setattr(MemoryFileSystem, "mv", move_without_replacing)
    with pytest.raises(DestinationError, match="does not replace files"):
        run_batch(manifest([line(0)]), f"memory:///{uuid.uuid4()}")
    assert submits(app) == 0


def make_context(moment):
    made_context = context()
    made_context["ti"].start_date = moment
    return made_context
