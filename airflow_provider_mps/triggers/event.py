"""What a trigger tells the worker: the finished task, or the error that ended the waiting, as JSON and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowSensorTimeout

from airflow_provider_mps.errors import (
    InvalidMpsConnectionError,
    InvalidRequestError,
    MpsApiError,
    MpsPermanentError,
)
from airflow_provider_mps.text_to_speech import TaskStatus, TextToSpeechTask

if TYPE_CHECKING:
    from collections.abc import Mapping

# The arguments of each are all that it holds.
_ERRORS = {
    kind.__name__: kind
    for kind in (AirflowSensorTimeout, InvalidMpsConnectionError, InvalidRequestError, MpsApiError, MpsPermanentError)
}


class _Unlogged(dict[str, Any]):
    """A dict whose repr, which the triggerer logs, tells no signed link, wherever it may stand."""

    def __repr__(self) -> str:
        return repr({name: self[name] for name in ("task_id", "status", "error_code", "message", "request_id")})


def event_of(outcome: TextToSpeechTask | AirflowException) -> dict[str, Any]:
    """Return the payload of the trigger's event."""
    if isinstance(outcome, TextToSpeechTask):
        return _Unlogged({**asdict(outcome), "status": outcome.status.value})
    return {"error": type(outcome).__name__, "args": list(outcome.args)}


def finished_task(event: Mapping[str, Any]) -> TextToSpeechTask:
    """
    Return the task that an event tells of.

    :raises AirflowException: the error that the event tells of
    """
    if "error" in event:
        raise _ERRORS.get(event["error"], AirflowException)(*event["args"])
    return TextToSpeechTask(**{**event, "status": TaskStatus(event["status"])})
