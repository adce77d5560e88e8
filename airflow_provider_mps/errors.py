"""What can go wrong with MPS, and what each error means for another try."""

from __future__ import annotations

from enum import StrEnum

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

NOT_SENT = "ClientNetworkError.NotSent"
"""Code of a request that provably never reached the server."""
OUTCOME_UNKNOWN = "ClientNetworkError.OutcomeUnknown"
"""Code of a request that was sent, or may have been, without a usable answer."""
INVALID_RESPONSE = "InvalidResponse"
"""Code of an answer that does not have the API's form."""
SUBMIT_REFUSED = "SubmitRefused"
"""Code of a submit that MPS answered with an ``ErrorCode`` and no task."""
UNKNOWN_STATUS = "UnknownStatus"
"""Code of an answer whose ``Status`` is not one that this version knows."""


class ErrorClass(StrEnum):
    """What an error code means for another try."""

    THROTTLED = "throttled"
    """The server refused the request because there were too many. Any call may be made again."""
    NOT_SENT = "not sent"
    """The request did not reach the server. Any call may be made again."""
    OUTCOME_UNKNOWN = "outcome unknown"
    """The server may have acted on it. A query may be repeated; a second submit may be paid twice."""
    CREDENTIALS_EXPIRED = "credentials expired"
    """Refused, and worth one more try with fresh credentials."""
    PERMANENT = "permanent"
    """No try will ever succeed until somebody mends the request, the account or the connection."""


# A family covers its sub-codes: "InvalidParameter" is also "InvalidParameter.Foo". The first match decides.
# Source: the API's common error codes, https://www.tencentcloud.com/document/product/1041/33691
_CLASS_OF_FAMILY = {
    "RequestLimitExceeded": ErrorClass.THROTTLED,
    NOT_SENT: ErrorClass.NOT_SENT,
    "AuthFailure.TokenFailure": ErrorClass.CREDENTIALS_EXPIRED,
    "AuthFailure.SignatureExpire": ErrorClass.CREDENTIALS_EXPIRED,
    "FailedOperation.UserArrears": ErrorClass.PERMANENT,
    **dict.fromkeys(
        (
            "ActionOffline",
            "AuthFailure",
            "InvalidAction",
            "InvalidParameter",
            "InvalidParameterValue",
            "InvalidRequestError",
            "IpInBlacklist",
            "IpNotInWhitelist",
            "LimitExceeded",
            "MissingParameter",
            "NoSuchProduct",
            "NoSuchVersion",
            "RequestSizeLimitExceeded",
            "ResourceNotFound",
            "UnauthorizedOperation",
            "UnknownParameter",
            SUBMIT_REFUSED,
            UNKNOWN_STATUS,
            "UnsupportedOperation",
            "UnsupportedProtocol",
            "UnsupportedRegion",
        ),
        ErrorClass.PERMANENT,
    ),
}

_ADVICE = {
    "AuthFailure.SecretIdNotFound": "Check Login (SecretId), and Host: international and mainland accounts "
    "have separate keys and API domains",
    "AuthFailure.SignatureFailure": "Check Password (SecretKey)",
    "AuthFailure.InvalidSecretId": "Check Login (SecretId)",
    "AuthFailure.SignatureExpire": "Check this machine's clock: it may be at most 5 minutes off",
    "AuthFailure.TokenFailure": "Check the session token: it has expired or belongs to another key",
    "AuthFailure": "Check Login (SecretId) and Password (SecretKey)",
    "UnauthorizedOperation": "Grant the account this MPS action in Tencent's CAM",
    "RequestLimitExceeded": "The quota is shared by everything that uses this account; poll less often",
    "IpInBlacklist": "Allow this machine's address in Tencent's CAM",
    "IpNotInWhitelist": "Allow this machine's address in Tencent's CAM",
    **dict.fromkeys(
        ("InvalidAction", "NoSuchProduct", "NoSuchVersion"),
        "Check Host: what answers there is not the MPS API",
    ),
    "UnsupportedRegion": "Check Region",
    "FailedOperation.UserArrears": "Settle the account's bill",
    "ResourceNotFound": "Check the TaskId, and that it was submitted with the same account",
    "ClientNetworkError": "Check Host (API domain), Port, Schema (scheme) and Proxy, and the network",
    **dict.fromkeys(
        (INVALID_RESPONSE, "ServerNetworkError"),
        "Check Host if this goes on: what answers there is not the MPS API",
    ),
    f"{NOT_SENT}.NoRole": "Try again later",
    SUBMIT_REFUSED: "Mend what the message names; nothing was accepted",
    UNKNOWN_STATUS: "Update airflow-provider-mps",
}


def _families(code: str) -> list[str]:
    """``"A.B.C"`` → ``["A.B.C", "A.B", "A"]``: from the code itself to its widest family."""
    parts = code.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]


def classify(code: str) -> ErrorClass:
    """Tell what an API error code, e.g. ``"InvalidParameter.Foo"``, means for another try."""
    for family in _families(code):
        if family in _CLASS_OF_FAMILY:
            return _CLASS_OF_FAMILY[family]
    return ErrorClass.OUTCOME_UNKNOWN


def advice(code: str) -> str:
    """Tell the person on call what to do about an error code; empty where nothing is known."""
    return next((_ADVICE[family] for family in _families(code) if family in _ADVICE), "")


def may_query_again(error_class: ErrorClass) -> bool:
    """Tell whether a query that met such an error is worth repeating at once."""
    return error_class in {ErrorClass.THROTTLED, ErrorClass.NOT_SENT, ErrorClass.OUTCOME_UNKNOWN}


def may_submit_again(error_class: ErrorClass) -> bool:
    """Tell whether a submit that met such an error was provably not accepted, so that nothing is paid twice."""
    return error_class in {ErrorClass.THROTTLED, ErrorClass.NOT_SENT}


_DISPROVES_CONNECTION = {
    "ActionOffline",
    "AuthFailure",
    "ClientNetworkError",
    INVALID_RESPONSE,
    "InvalidAction",
    "IpInBlacklist",
    "IpNotInWhitelist",
    "NoSuchProduct",
    "NoSuchVersion",
    "ServerNetworkError",
    "UnauthorizedOperation",
    "UnsupportedProtocol",
    "UnsupportedRegion",
}


def disproves_connection(code: str) -> bool:
    """Tell whether the error of a test query means that the sensor could not ask either."""
    return not _DISPROVES_CONNECTION.isdisjoint(_families(code))


def refuses_credentials(code: str) -> bool:
    """Return whether MPS refused the key or token itself: it may have expired, or been replaced in the connection."""
    return code.startswith("AuthFailure") and "UnauthorizedOperation" not in code.split(".")


class MpsApiError(AirflowException):
    """
    A call to MPS failed, after the hook's own retries. Airflow may retry the task.

    :param code: the API's error code, e.g. ``RequestLimitExceeded``, or one of this module's for a request
        that got no usable answer
    :param message: the API's message
    :param request_id: the API's ``RequestId``; empty where no answer was received
    :param context: which call failed, about which task, with which connection
    """

    def __init__(self, code: str, message: str, request_id: str = "", context: str = "") -> None:
        super().__init__(code, message, request_id, context)
        self.code = code
        self.message = message
        self.request_id = request_id
        self.context = context

    @property
    def error_class(self) -> ErrorClass:
        """What the code means for another try."""
        return classify(self.code)

    def __str__(self) -> str:
        return _sentences(
            f"{self.context + ': ' if self.context else ''}{self.code}: {self.message}",
            f"RequestId {self.request_id or 'none was given'}",
            advice(self.code),
        )


class MpsPermanentError(MpsApiError, AirflowFailException):
    """A call to MPS failed in a way that no retry can mend: Airflow fails the task at once."""


def api_error(code: str, message: str, request_id: str = "", context: str = "") -> MpsApiError:
    """Make the error for an API code: an :class:`MpsPermanentError` where no retry can help."""
    # Expired credentials count as permanent here: the hook has renewed what can be renewed before it raises.
    lasting = classify(code) in {ErrorClass.PERMANENT, ErrorClass.CREDENTIALS_EXPIRED}
    return (MpsPermanentError if lasting else MpsApiError)(code, message, request_id, context)


class TextToSpeechTaskFailed(AirflowFailException):
    """
    MPS finished the task with ``Status`` ``fail``. Asking again cannot change that, so Airflow does not retry.

    :param task_id: the MPS ``TaskId``
    :param error_code: the answer's ``ErrorCode``
    :param message: the answer's ``Msg``
    :param request_id: the answer's ``RequestId``
    """

    def __init__(self, task_id: str, error_code: int | None, message: str, request_id: str) -> None:
        super().__init__(task_id, error_code, message, request_id)
        self.task_id = task_id
        self.error_code = error_code
        self.message = message
        self.request_id = request_id

    def __str__(self) -> str:
        return _sentences(
            f"MPS text-to-speech task {self.task_id} failed: ErrorCode {self.error_code}: {self.message}",
            f"RequestId {self.request_id}",
            "Mend the text or the voice and submit it anew; give Tencent's support the RequestId if neither "
            "explains it",
        )


class InvalidMpsConnectionError(AirflowFailException):
    """The Airflow connection is missing or has a field that must be mended; the message names it."""


class InvalidRequestError(AirflowFailException, ValueError):
    """An argument was refused before any call was made; the message names it."""


class AudioTransferError(AirflowException):
    """
    The audio could not be fetched or stored this time.

    At the destination is what was there before or, where the message says that it may be, the whole audio.
    """


class AudioTransferStopped(BaseException):
    """Airflow wants the task to end while audio is moved. Airflow may retry it: its worker may be what has to go."""


class DestinationError(AirflowFailException):
    """The destination cannot be written until somebody mends it; the message tells what."""


def _sentences(what: str, request_id: str, next_step: str) -> str:
    return f"{what.rstrip('.')} ({request_id}).{' ' + next_step + '.' if next_step else ''}"
