import json

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSensorTimeout

from airflow_provider_mps.exceptions import (
    InvalidMpsConnectionError,
    InvalidRequestError,
    MpsPermanentError,
    make_api_error,
)
from airflow_provider_mps.polling.event import event_from_outcome, task_from_event
from airflow_provider_mps.speech.task import TaskStatus, TextToSpeechTask

TASK = TextToSpeechTask(
    "task-1", TaskStatus.SUCCESS, "https://cos.example/a.wav?sign=SECRET", "voice", {"url": "SECRET"}, 0, "ok", "req-1"
)


def through_database(event):
    """Return an event as Airflow's database returns it."""
    return json.loads(json.dumps(event))


@pytest.mark.parametrize("status", list(TaskStatus))
def test_event_task_round_trip(status):
    task = TextToSpeechTask("task-1", status, None, "voice", {"duration": 1.5}, 110, "m", "req-1")
    assert task_from_event(through_database(event_from_outcome(task))) == task
    assert task_from_event(through_database(event_from_outcome(TASK))) == TASK


def test_event_repr_hides_signed_urls():
    event = event_from_outcome(TASK)
    assert "SECRET" not in repr(event)
    assert "req-1" in repr(event)


@pytest.mark.parametrize(
    "error",
    [
        make_api_error("AuthFailure.SignatureFailure", "wrong", "req-1", "polling"),
        InvalidMpsConnectionError("fix it"),
        InvalidRequestError("no task id"),
        AirflowSensorTimeout("too late"),
    ],
)
def test_event_error_round_trip(error):
    with pytest.raises(type(error)) as caught:
        task_from_event(through_database(event_from_outcome(error)))
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)


def test_event_permanent_error_stays_not_retried():
    with pytest.raises(AirflowFailException) as caught:
        task_from_event(through_database(event_from_outcome(make_api_error("UnauthorizedOperation", "no"))))
    assert isinstance(caught.value, MpsPermanentError)


def test_event_unknown_error_class_raises_airflow_exception():
    with pytest.raises(AirflowException, match="novel"):
        task_from_event({"error": "NovelError", "args": ["novel"]})
