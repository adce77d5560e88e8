"""Trigger events: the finished task or an error as JSON, and a description of the last polls."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowSensorTimeout

from airflow_provider_mps.exceptions import (
    InvalidMpsConnectionError,
    InvalidRequestError,
    MpsApiError,
    MpsPermanentError,
)
from airflow_provider_mps.speech.task import MpsTask, TaskStatus, TextToSpeechTask

if TYPE_CHECKING:
    from collections.abc import Mapping

# The constructor's arguments hold all of their state.
_ERRORS = {
    error.__name__: error
    for error in (AirflowSensorTimeout, InvalidMpsConnectionError, InvalidRequestError, MpsApiError, MpsPermanentError)
}


class _TaskPayload(dict[str, Any]):
    """A dict whose repr, which the triggerer logs, contains no signed URL."""

    def __repr__(self) -> str:
        return repr({name: self[name] for name in ("task_id", "status", "error_code", "message", "request_id")})


def event_from_outcome(outcome: MpsTask | AirflowException) -> dict[str, Any]:
    """Return the payload of the trigger's event."""
    if isinstance(outcome, MpsTask):
        return _TaskPayload({**asdict(outcome), "status": outcome.status.value})
    return {"error": type(outcome).__name__, "args": list(outcome.args)}


def task_from_event(event: Mapping[str, Any], task_class: type[MpsTask] = TextToSpeechTask) -> MpsTask:
    """
    Return the task that an event reports.

    :param task_class: the kind of task that the trigger has waited for
    :raises AirflowException: the error that the event reports
    """
    if "error" in event:
        raise _ERRORS.get(event["error"], AirflowException)(*event["args"])
    return task_class(**{**event, "status": TaskStatus(event["status"])})


@dataclass
class LastSeen:
    """Keep the latest results of polling one task, for the error at a deadline. Times are seconds since 1970."""

    since: float | None = None
    """When the wait began; ``None`` if unknown."""
    processing_at: float | None = None
    error_at: float | None = None
    error: str = ""

    def record_processing(self) -> None:
        """Record a response with the status ``processing``."""
        self.processing_at = time.time()

    def record_error(self, at: float, error: str) -> None:
        """Record why a poll failed or could not be sent."""
        if self.error_at is None or at >= self.error_at:
            self.error_at, self.error = at, error

    def describe(self, mps_task_id: str) -> str:
        """Return one sentence without its period, to which the caller can add the limit that ended the wait."""
        if self.error_at is not None and self.error_at >= (self.processing_at or 0.0):
            before = f"was processing at {_format_utc(self.processing_at)} and " if self.processing_at else ""
            since = " since" if self.processing_at else ""
            last_error = f"last error at {_format_utc(self.error_at)}: {self.error.rstrip('.')}"
            return f"Task {mps_task_id} {before}could not be polled{since} ({last_error})"
        if self.processing_at is not None:
            return f"Task {mps_task_id} was still processing at {_format_utc(self.processing_at)}"
        return f"Task {mps_task_id} was never polled" + (f" after {_format_utc(self.since)}" if self.since else "")


def _format_utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
