"""
The exceptions that operators, sensors and hooks raise.

::

    AirflowException                          Airflow may retry the task
    ├── MpsApiError                           a call failed, after the hook's retries
    │   └── MpsPermanentError                 no retry can succeed (also an AirflowFailException)
    ├── AudioTransferError                    the audio could not be downloaded or stored in this attempt
    ├── DestinationLockedError                another batch uses the destination
    └── AirflowFailException                  Airflow does not retry the task
        ├── MpsTaskFailed                     MPS failed its task
        │   ├── TextToSpeechTaskFailed
        │   └── VoiceDesignTaskFailed
        ├── InvalidMpsConnectionError         the connection is missing or must be fixed
        ├── InvalidRequestError               an argument is invalid (also a ValueError)
        └── DestinationError                  the destination must be fixed
    BaseException
    └── AudioTransferStopped                  Airflow ends the task during a transfer
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_mps.error_codes import ErrorClass, classify, get_advice


class MpsApiError(AirflowException):
    """
    A call to MPS failed, after the hook's own retries. Airflow may retry the task.

    :param code: the API's error code, e.g. ``RequestLimitExceeded``; without a usable response, a constant of
        :mod:`.error_codes`
    :param message: the API's message
    :param request_id: the API's ``RequestId``; empty if there was no response
    :param context: the call, its task and its connection
    """

    def __init__(self, code: str, message: str, request_id: str = "", context: str = "") -> None:
        super().__init__(code, message, request_id, context)
        self.code = code
        self.message = message
        self.request_id = request_id
        self.context = context

    @property
    def error_class(self) -> ErrorClass:
        """The class of the code: whether a retry can help."""
        return classify(self.code)

    def describe(self) -> str:
        """Return the message without advice, as one sentence."""
        return _add_request_id(
            f"{self.context + ': ' if self.context else ''}{self.code}: {self.message}",
            f"RequestId {self.request_id}" if self.request_id else "no RequestId",
        )

    def __str__(self) -> str:
        advice = get_advice(self.code)
        return f"{self.describe()} {advice}." if advice else self.describe()


class MpsPermanentError(MpsApiError, AirflowFailException):
    """A call to MPS failed, and no retry can succeed. Airflow fails the task at once."""


def make_api_error(code: str, message: str, request_id: str = "", context: str = "") -> MpsApiError:
    """Return the exception for an API error code: an :class:`MpsPermanentError` if no retry can help."""
    # Expired credentials are permanent: the hook refreshes them, if possible, before it raises this error.
    is_permanent = classify(code) in {ErrorClass.PERMANENT, ErrorClass.CREDENTIALS_EXPIRED}
    return (MpsPermanentError if is_permanent else MpsApiError)(code, message, request_id, context)


class MpsTaskFailed(AirflowFailException):
    """
    MPS finished its task with ``Status`` ``fail``. Polling again cannot change that, so Airflow does not retry.

    :param task_id: the MPS ``TaskId``
    :param error_code: the response's ``ErrorCode``
    :param message: the response's ``Msg``
    :param request_id: the response's ``RequestId``
    """

    kind = "MPS task"
    advice = "Submit it again"

    def __init__(self, task_id: str, error_code: int | None, message: str, request_id: str) -> None:
        super().__init__(task_id, error_code, message, request_id)
        self.task_id = task_id
        self.error_code = error_code
        self.message = message
        self.request_id = request_id

    def __str__(self) -> str:
        failure = _add_request_id(
            f"{self.kind} {self.task_id} failed: ErrorCode {self.error_code}: {self.message}",
            f"RequestId {self.request_id}",
        )
        return f"{failure} {self.advice}; otherwise, give Tencent's support the RequestId."


class TextToSpeechTaskFailed(MpsTaskFailed):
    """MPS failed to speak a text. Airflow does not retry."""

    kind = "MPS text-to-speech task"
    advice = "Fix the text or the voice and submit it again"


class VoiceDesignTaskFailed(MpsTaskFailed):
    """MPS failed to design a voice. Airflow does not retry."""

    kind = "MPS voice design task"
    advice = "Change the prompt and submit it again"


class InvalidMpsConnectionError(AirflowFailException):
    """The Airflow connection is missing or invalid; the message names the field to fix."""


class InvalidRequestError(AirflowFailException, ValueError):
    """An argument is invalid, and nothing was submitted or created; the message names it."""


class AudioTransferError(AirflowException):
    """
    The audio could not be downloaded or stored in this attempt. Airflow may retry the task.

    The destination is unchanged unless the message says otherwise: it may hold the complete audio, or audio that the
    storage has damaged.
    """


class AudioTransferStopped(BaseException):
    """Airflow ends the task during a transfer. Airflow may retry it, e.g. if only its worker shuts down."""


class DestinationError(AirflowFailException):
    """The destination cannot be written until it is fixed; the message says what to fix."""


class DestinationLockedError(AirflowException):
    """Another batch uses the destination; the message names it."""


def _add_request_id(what: str, request_id: str) -> str:
    return f"{what.rstrip('.')} ({request_id})."
