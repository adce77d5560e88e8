import json

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSensorTimeout

from airflow_provider_mps.errors import InvalidMpsConnectionError, InvalidRequestError, MpsPermanentError, api_error
from airflow_provider_mps.text_to_speech import TaskStatus, TextToSpeechTask
from airflow_provider_mps.triggers.event import event_of, finished_task

TASK = TextToSpeechTask(
    "task-1", TaskStatus.SUCCESS, "https://cos.example/a.wav?sign=SECRET", "voice", {"link": "SECRET"}, 0, "ok", "req-1"
)


def travel(event):
    """As through Airflow's database."""
    return json.loads(json.dumps(event))


@pytest.mark.parametrize("status", list(TaskStatus))
def test_a_task_arrives_as_it_left(status):
    task = TextToSpeechTask("task-1", status, None, "voice", {"duration": 1.5}, 110, "m", "req-1")
    assert finished_task(travel(event_of(task))) == task
    assert finished_task(travel(event_of(TASK))) == TASK


def test_a_signed_link_is_not_told_where_the_event_is_logged():
    event = event_of(TASK)
    assert "SECRET" not in repr(event)
    assert "req-1" in repr(event)


@pytest.mark.parametrize(
    "error",
    [
        api_error("AuthFailure.SignatureFailure", "wrong", "req-1", "asking"),
        InvalidMpsConnectionError("mend it"),
        InvalidRequestError("no task id"),
        AirflowSensorTimeout("too late"),
    ],
)
def test_an_error_arrives_as_it_left(error):
    with pytest.raises(type(error)) as caught:
        finished_task(travel(event_of(error)))
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)


def test_a_permanent_error_is_still_one_that_airflow_does_not_retry():
    with pytest.raises(AirflowFailException) as caught:
        finished_task(travel(event_of(api_error("UnauthorizedOperation", "no"))))
    assert isinstance(caught.value, MpsPermanentError)


def test_an_error_of_another_version_is_still_an_error():
    with pytest.raises(AirflowException, match="novel"):
        finished_task({"error": "NovelError", "args": ["novel"]})
