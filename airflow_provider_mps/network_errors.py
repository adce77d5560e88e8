"""What the HTTP libraries below the SDK raise, told apart by whether the server may have got the request."""

from __future__ import annotations

import ssl

import httpx
import requests
import urllib3.exceptions
from tencentcloud.common.exception import TencentCloudSDKException
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NewConnectionError, ProxyError

from airflow_provider_mps.errors import (
    NOT_SENT,
    OUTCOME_UNKNOWN,
    InvalidMpsConnectionError,
    MpsApiError,
    api_error,
)
from airflow_provider_mps.redaction import describe_error

# These quote what could not be sent, which may be a key, a token or a signature.
_UNSENDABLE = (UnicodeError, requests.exceptions.InvalidHeader, httpx.LocalProtocolError)
_UNUSABLE_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    httpx.UnsupportedProtocol,
    LocationParseError,
    OverflowError,
)


def to_api_error(error: Exception, context: str) -> MpsApiError | InvalidMpsConnectionError:
    """
    Return what to raise for an error of a call: one that tells what it means for another try.

    :param error: raised by the SDK, by the HTTP library below it, or by our own reading of the answer
    :param context: which call failed, about which task, with which connection
    :raises Exception: ``error`` itself, when it is none that a call can raise
    """
    if isinstance(error, TencentCloudSDKException) and isinstance(error.__context__, Exception):
        error = error.__context__  # the SDK words it as text and forgets its kind
    if isinstance(error, InvalidMpsConnectionError):
        return error  # of signing: nothing was sent
    if isinstance(error, MpsApiError):
        return api_error(error.code, error.message, error.request_id, error.context or context)
    if isinstance(error, _UNSENDABLE) and not _is_of_the_answer(error):
        return InvalidMpsConnectionError(
            f"{context}: nothing was sent, because a credential, the region or the proxy has a character that no HTTP "
            "header can hold. Check the connection's fields for line breaks and for anything but ASCII."
        )
    if isinstance(error, _UNUSABLE_ADDRESS):
        # Not quoted: it words what could not be read, which may be a proxy with its password.
        return InvalidMpsConnectionError(
            f"{context}: nothing was sent ({type(error).__name__}). Check Host, Port and Proxy."
        )
    # httpx.InvalidURL: of a Location in the answer, for our own address has been checked.
    network = requests.RequestException | httpx.HTTPError | httpx.InvalidURL | urllib3.exceptions.HTTPError | OSError
    if isinstance(error, network):
        code = NOT_SENT if never_sent(error) else OUTCOME_UNKNOWN
        return api_error(code, describe_error(error), context=context)
    raise error


def _is_of_the_answer(error: Exception) -> bool:
    """Tell whether requests complains of a header that it received, not of one that it was to send."""
    return bool(error.args) and isinstance(error.args[0], urllib3.exceptions.InvalidHeader)


def never_sent(error: BaseException) -> bool:
    """Tell whether a network error proves that the server did not get the request."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError):
        return True
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    if isinstance(error, requests.exceptions.ConnectionError):
        return _never_connected(getattr(error.args[0], "reason", None) if error.args else None)
    return False


def _never_connected(reason: object) -> bool:
    if isinstance(reason, ProxyError):
        # urllib3 also says so of a connection through a proxy that broke after the request was sent.
        reason = reason.original_error
        return (isinstance(reason, OSError) and str(reason).startswith("Tunnel connection failed")) or (
            _never_connected(reason)
        )
    if isinstance(reason, NewConnectionError | ConnectTimeoutError):
        return True
    # Any other TLS error may also come from an established connection, whatever its text says.
    return isinstance(_root(reason), ssl.SSLCertVerificationError)


def _root(error: object) -> object:
    while isinstance(error, BaseException) and error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    return error
