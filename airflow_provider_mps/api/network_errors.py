"""Translate errors of the SDK and its HTTP libraries by whether the server may have received the request."""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import requests
import urllib3
from tencentcloud.common.exception import TencentCloudSDKException
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NewConnectionError, ProxyError

from airflow_provider_mps.error_codes import NOT_SENT, OUTCOME_UNKNOWN
from airflow_provider_mps.exceptions import InvalidMpsConnectionError, MpsApiError, make_api_error
from airflow_provider_mps.redaction import describe_error, get_safe_cause

if TYPE_CHECKING:
    from collections.abc import Iterator

# Not quoted: the text of these errors holds a key, a token, a signature or a proxy with its password.
_INVALID_HEADER = (UnicodeError, requests.exceptions.InvalidHeader, httpx.LocalProtocolError)
_INVALID_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    httpx.UnsupportedProtocol,
    LocationParseError,
    OverflowError,
)
_NETWORK_ERROR = (
    requests.RequestException,
    httpx.HTTPError,
    httpx.InvalidURL,  # of a Location header in the response: the request's own address is valid
    urllib3.exceptions.HTTPError,
    OSError,
)
_NOT_CONNECTED = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    requests.exceptions.ConnectTimeout,
)


@contextmanager
def translate_errors(context: str, unexpected_code: str | None = None) -> Iterator[None]:
    """
    Raise an error of a call as one that says whether a retry can help; see :func:`translate_network_error`.

    :param context: which call, about which task, with which connection
    :param unexpected_code: error code for any other error; ``None`` raises that error unchanged
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - an unexpected error is raised unchanged, or as `unexpected_code`
        try:
            failure = translate_network_error(error, context)
        except Exception:
            if unexpected_code is None:
                raise
            failure = make_api_error(unexpected_code, f"unexpected {describe_error(error)}", context=context)
        # The cause of an unusable connection may quote the secret that is invalid.
        raise failure from None if isinstance(failure, InvalidMpsConnectionError) else get_safe_cause(error)


def translate_network_error(error: Exception, context: str) -> MpsApiError | InvalidMpsConnectionError:
    """Return what to raise for an error of the SDK, an HTTP library or this package; raise any other error."""
    if isinstance(error, TencentCloudSDKException) and isinstance(error.__context__, Exception):
        error = error.__context__  # the SDK keeps only the text of the library's error
    if isinstance(error, InvalidMpsConnectionError):
        return error  # raised while signing: nothing was sent
    if isinstance(error, MpsApiError):
        return make_api_error(error.code, error.message, error.request_id, error.context or context)
    is_about_response = bool(error.args) and isinstance(error.args[0], urllib3.exceptions.InvalidHeader)
    if isinstance(error, _INVALID_HEADER) and not is_about_response:
        return InvalidMpsConnectionError(
            f"{context}: nothing was sent, because a credential, the region or the proxy has a character that no HTTP "
            "header can hold. Check the connection's fields for line breaks and for anything but ASCII."
        )
    if isinstance(error, _INVALID_ADDRESS):
        return InvalidMpsConnectionError(
            f"{context}: nothing was sent ({type(error).__name__}). Check Host (API domain), Port and Proxy."
        )
    if isinstance(error, _NETWORK_ERROR):
        code = NOT_SENT if is_never_sent(error) else OUTCOME_UNKNOWN
        return make_api_error(code, describe_error(error), context=context)
    raise error


def is_never_sent(error: BaseException) -> bool:
    """Return whether a network error proves that the server did not receive the request."""
    if isinstance(error, _NOT_CONNECTED):
        return True
    if isinstance(error, requests.exceptions.ConnectionError) and error.args:
        return _is_before_connection(getattr(error.args[0], "reason", None))
    return False


def _is_before_connection(reason: object) -> bool:
    if isinstance(reason, ProxyError):
        # urllib3 also raises it if a connection through a proxy breaks after the request was sent.
        reason = reason.original_error
        is_tunnel_error = isinstance(reason, OSError) and str(reason).startswith("Tunnel connection failed")
        return is_tunnel_error or _is_before_connection(reason)
    if isinstance(reason, NewConnectionError | ConnectTimeoutError):
        return True
    while isinstance(reason, BaseException) and reason.args and isinstance(reason.args[0], BaseException):
        reason = reason.args[0]
    # Any other TLS error may also come from an established connection, whatever its text says.
    return isinstance(reason, ssl.SSLCertVerificationError)
