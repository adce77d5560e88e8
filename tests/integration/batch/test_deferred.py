"""A batch that waits in the triggerer."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider_mps.batch.lease import DestinationTakenError
from tests.batching import LINES, batch, context, line, run_batch, submits


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
