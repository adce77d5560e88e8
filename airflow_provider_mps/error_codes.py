"""One table of MPS error codes: whether a retry can help, what a poller does, and what to advise."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum, auto

NOT_SENT = "ClientNetworkError.NotSent"
"""Code of a request that provably never reached the server."""
NO_ROLE = f"{NOT_SENT}.NoRole"
"""Code of a request that was not sent because a role provided no keys."""
OUTCOME_UNKNOWN = "ClientNetworkError.OutcomeUnknown"
"""Code of a request that was or may have been sent, and got no usable response."""
INVALID_RESPONSE = "InvalidResponse"
"""Code of a response that is not in the API's format."""
SUBMIT_REJECTED = "SubmitRejected"
"""Code of a submit for which MPS returned an ``ErrorCode`` and no task."""
REQUEST_REJECTED = "RequestRejected"
"""Code of any other call for which MPS returned an ``ErrorCode``."""
UNKNOWN_STATUS = "UnknownStatus"
"""Code of a response with an undocumented ``Status``."""
FIND_TASK_ADVICE = "Find out whether MPS has a task for it (task log, MPS console, Tencent's support)"
"""What to do first if it is unknown whether MPS accepted a submit."""


class ErrorClass(StrEnum):
    """Whether a retry can help after an error."""

    THROTTLED = "throttled"
    """The server rejected the request because there were too many. Any call can be retried."""
    NOT_SENT = "not sent"
    """The request did not reach the server. Any call can be retried."""
    OUTCOME_UNKNOWN = "outcome unknown"
    """The server may have processed the request. A query can be retried; a second submit may be billed twice."""
    CREDENTIALS_EXPIRED = "credentials expired"
    """The server rejected the credentials. A retry with refreshed credentials can help."""
    PERMANENT = "permanent"
    """No retry can succeed until the request, the account or the connection is fixed."""


class PollErrorAction(Enum):
    """What a poller does after an error."""

    SLOW_DOWN = auto()
    """Lower the request rate, and poll this task again."""
    REFRESH_CREDENTIALS = auto()
    """Refresh the credentials, which may have expired or been replaced in the connection."""
    BACK_OFF = auto()
    """Poll this task later; the error is transient."""
    FAIL_ALL = auto()
    """Fail all waits on this connection."""
    FAIL = auto()
    """Fail the wait for this task."""


@dataclass(frozen=True)
class ErrorCode:
    """
    The meaning of an error code and of its sub-codes.

    :param error_class: whether a retry can help; ``None`` inherits from the parent code
    :param advice: what the person on call can do; empty inherits from the parent code
    :param is_connection_error: whether every call with the same connection would fail
    :param is_account_error: whether every submit of the account would fail, but not its queries
    """

    error_class: ErrorClass | None = None
    advice: str = ""
    is_connection_error: bool = False
    is_account_error: bool = False


_PERMANENT = ErrorClass.PERMANENT
_NOT_THE_API = "Check Host (API domain): the server there is not the MPS API"
_ALLOW_ADDRESS = "Allow this machine's address in Tencent's CAM"
_IF_REPEATED = "Check Host (API domain) and Proxy if this error persists: the server there is not the MPS API"
_FIX_VALUE = "Fix the value that the message names"
_GRANT_ACTION = "Grant the account this MPS action in Tencent's CAM"
_CONTACT_SUPPORT = "If this error persists, give Tencent's support the RequestId"

# Source: the API's common error codes, https://www.tencentcloud.com/document/product/1041/33691
ERROR_CODES = {
    "ActionOffline": ErrorCode(
        _PERMANENT, "Update airflow-provider-mps: MPS no longer offers this API action", is_connection_error=True
    ),
    "AuthFailure": ErrorCode(_PERMANENT, "Check Login (SecretId) and Password (SecretKey)", is_connection_error=True),
    "AuthFailure.InvalidSecretId": ErrorCode(advice="Check Login (SecretId)"),
    "AuthFailure.SecretIdNotFound": ErrorCode(
        advice="Check Login (SecretId) and Host (API domain): international and mainland accounts have separate keys "
        "and domains"
    ),
    "AuthFailure.SignatureExpire": ErrorCode(
        ErrorClass.CREDENTIALS_EXPIRED, "Check this machine's clock: it may be at most 5 minutes off"
    ),
    "AuthFailure.SignatureFailure": ErrorCode(advice="Check Password (SecretKey)"),
    "AuthFailure.TokenFailure": ErrorCode(
        ErrorClass.CREDENTIALS_EXPIRED, "Check the session token: it has expired or belongs to another key"
    ),
    "AuthFailure.UnauthorizedOperation": ErrorCode(advice=_GRANT_ACTION),
    "ClientNetworkError": ErrorCode(
        advice="Check Host (API domain), Port, Schema (scheme) and Proxy, and the network", is_connection_error=True
    ),
    NOT_SENT: ErrorCode(ErrorClass.NOT_SENT),
    NO_ROLE: ErrorCode(advice="Retry later, and check the role if this error persists"),
    "FailedOperation": ErrorCode(advice=_CONTACT_SUPPORT),
    "FailedOperation.UserArrears": ErrorCode(_PERMANENT, "Settle the account's bill", is_account_error=True),
    "InternalError": ErrorCode(advice=_CONTACT_SUPPORT),
    "InvalidAction": ErrorCode(_PERMANENT, _NOT_THE_API, is_connection_error=True),
    "InvalidParameter": ErrorCode(_PERMANENT, _FIX_VALUE),
    "InvalidParameterValue": ErrorCode(_PERMANENT, _FIX_VALUE),
    "InvalidRequestError": ErrorCode(_PERMANENT, _FIX_VALUE),
    INVALID_RESPONSE: ErrorCode(advice=_IF_REPEATED, is_connection_error=True),
    "IpInBlacklist": ErrorCode(_PERMANENT, _ALLOW_ADDRESS, is_connection_error=True),
    "IpNotInWhitelist": ErrorCode(_PERMANENT, _ALLOW_ADDRESS, is_connection_error=True),
    "LimitExceeded": ErrorCode(
        _PERMANENT,
        "Use less of the quota that the message names, e.g. delete unused voices, or have Tencent raise it",
        is_account_error=True,
    ),
    "MissingParameter": ErrorCode(_PERMANENT, "Set the value that the message names"),
    "NoSuchProduct": ErrorCode(_PERMANENT, _NOT_THE_API, is_connection_error=True),
    "NoSuchVersion": ErrorCode(_PERMANENT, _NOT_THE_API, is_connection_error=True),
    "RequestLimitExceeded": ErrorCode(
        ErrorClass.THROTTLED,
        "Poll less often, or lower requests_per_second: all programs on the account share its quota",
    ),
    REQUEST_REJECTED: ErrorCode(_PERMANENT, "Fix what the message names"),
    "RequestSizeLimitExceeded": ErrorCode(_PERMANENT, "Shorten the text or the sample"),
    "ResourceInsufficient": ErrorCode(advice=_CONTACT_SUPPORT),
    "ResourceNotFound": ErrorCode(_PERMANENT, "Check the id, and that it belongs to the same account"),
    "ResourceUnavailable": ErrorCode(advice=_CONTACT_SUPPORT),
    "ServerNetworkError": ErrorCode(advice=_IF_REPEATED, is_connection_error=True),
    SUBMIT_REJECTED: ErrorCode(_PERMANENT, "Fix what the message names: nothing was accepted"),
    "UnauthorizedOperation": ErrorCode(_PERMANENT, _GRANT_ACTION, is_connection_error=True),
    "UnknownParameter": ErrorCode(_PERMANENT, "Remove the argument that the message names"),
    UNKNOWN_STATUS: ErrorCode(_PERMANENT, "Update airflow-provider-mps"),
    "UnsupportedOperation": ErrorCode(_PERMANENT, "Check the arguments and Region: MPS does not support this call"),
    "UnsupportedProtocol": ErrorCode(_PERMANENT, "Check Schema (scheme) and Proxy", is_connection_error=True),
    "UnsupportedRegion": ErrorCode(_PERMANENT, "Check Region", is_connection_error=True),
}
"""By code. An entry also applies to sub-codes: ``InvalidParameter`` to ``InvalidParameter.Foo``."""


def classify(code: str) -> ErrorClass:
    """Return the class of an error code, e.g. ``"InvalidParameter.Foo"``."""
    classes = (entry.error_class for entry in _find_entries(code) if entry.error_class)
    return next(classes, ErrorClass.OUTCOME_UNKNOWN)


def get_advice(code: str) -> str:
    """Return what the person on call can do about an error code; empty if there is no advice."""
    return next((entry.advice for entry in _find_entries(code) if entry.advice), "")


def can_retry_query(error_class: ErrorClass) -> bool:
    """Return whether a query can be retried after such an error."""
    return error_class in {ErrorClass.THROTTLED, ErrorClass.NOT_SENT, ErrorClass.OUTCOME_UNKNOWN}


def can_retry_submit(error_class: ErrorClass) -> bool:
    """Return whether a submit can be retried: after such an error it was provably not accepted, so not billed."""
    return error_class in {ErrorClass.THROTTLED, ErrorClass.NOT_SENT}


def is_connection_error(code: str) -> bool:
    """Return whether every call with the same connection would fail."""
    return any(entry.is_connection_error for entry in _find_entries(code))


def fails_every_submit(code: str) -> bool:
    """Return whether every submit of the account would fail, not only this one."""
    return is_connection_error(code) or any(entry.is_account_error for entry in _find_entries(code))


def is_credential_error(code: str) -> bool:
    """Return whether MPS rejected the key or token, which may have expired or been replaced in the connection."""
    return code.startswith("AuthFailure") and "UnauthorizedOperation" not in code.split(".")


def is_not_found(code: str) -> bool:
    """Return whether MPS knows no resource with the id of the request."""
    return code.split(".", maxsplit=1)[0] == "ResourceNotFound"


def get_poll_error_action(code: str) -> PollErrorAction:
    """Return what a poller does after an API error."""
    if is_credential_error(code):
        return PollErrorAction.REFRESH_CREDENTIALS
    match classify(code):
        case ErrorClass.THROTTLED:
            return PollErrorAction.SLOW_DOWN
        case ErrorClass.PERMANENT:
            if "UnauthorizedOperation" in code.split("."):
                return PollErrorAction.FAIL  # a permission can be granted for some resources only
            return PollErrorAction.FAIL_ALL if is_connection_error(code) else PollErrorAction.FAIL
        case _:
            return PollErrorAction.BACK_OFF


def _find_entries(code: str) -> list[ErrorCode]:
    """Return the entries of ``"A.B.C"``, ``"A.B"`` and ``"A"``, in this order."""
    parts = code.split(".")
    codes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return [ERROR_CODES[each] for each in codes if each in ERROR_CODES]
