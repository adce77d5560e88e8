"""The Tencent Cloud SDK's clients, and its many ways to fail turned into one error."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.credentials import make_credential
from airflow_provider_mps.errors import (
    INVALID_RESPONSE,
    NOT_SENT,
    OUTCOME_UNKNOWN,
    InvalidMpsConnectionError,
    MpsApiError,
    MpsPermanentError,
    api_error,
)

if TYPE_CHECKING:
    from airflow_provider_mps.connection import MpsConnection
    from airflow_provider_mps.credentials import Credential

API_VERSION = "2019-06-12"
STS_VERSION = "2018-08-13"
STS_REGION = "ap-guangzhou"  # STS answers alike in every region, but wants one named

_QUOTED = 200  # characters of an unreadable answer that are quoted


def make_client(connection: MpsConnection) -> Any:
    """
    Make the SDK's ``CommonClient`` for MPS, meant to be kept.

    :raises InvalidMpsConnectionError: when there is nothing to sign with
    """
    return _sync_client(connection, credential_of(connection))


def make_async_client(connection: MpsConnection) -> Any:
    """
    Make the SDK's asynchronous ``CommonClient`` for MPS. Blocks: it reads certificates and may look for credentials.

    :raises InvalidMpsConnectionError: when there is nothing to sign with
    """
    import httpx
    from tencentcloud.common.common_client_async import CommonClient

    profile = _profile(connection, connection.endpoint)
    profile.httpProfile.proxy = None
    client = CommonClient("mps", API_VERSION, credential_of(connection), connection.region, profile)
    if connection.proxy:
        # The SDK passes the proxy under a name that httpx 0.28 no longer knows.
        client.http_client = httpx.AsyncClient(timeout=connection.timeout, proxy=connection.proxy)
    return client


def credential_of(connection: MpsConnection) -> Credential:
    """Choose the credential that a connection signs with; see :func:`~.credentials.make_credential`."""

    def assume_role(base: Credential, parameters: dict[str, Any]) -> dict[str, Any]:
        sts = _sync_client(connection, base, service="sts")
        context = f"assuming the role {connection.role_arn} of connection '{connection.conn_id}'"
        try:
            answer: dict[str, Any] = response_of(sts.call_json("AssumeRole", parameters))
        except Exception as error:
            failure = to_api_error(error, context)
            if isinstance(failure, MpsPermanentError):
                raise InvalidMpsConnectionError(f"{failure} Check Role ARN, and who may assume it.") from error
            # Whatever became of this request, the one that needed the role was never sent.
            raise api_error(NOT_SENT, failure.message, failure.request_id, context) from error
        return answer

    return make_credential(connection, assume_role)


def response_of(answer: Any) -> Any:
    """
    Return the ``Response`` object of an answer's envelope.

    :raises MpsApiError: when there is none, or when it holds an error: the SDK looks for one only where the
        content type is spelled exactly as it expects
    """
    response = answer.get("Response") if isinstance(answer, dict) else None
    if not isinstance(response, dict):
        raise api_error(INVALID_RESPONSE, f"the answer has no Response object: {str(answer)[:_QUOTED]}")
    error = response.get("Error")
    if isinstance(error, dict):
        raise api_error(str(error.get("Code")), str(error.get("Message")), str(response.get("RequestId") or ""))
    return response


def to_api_error(error: Exception, context: str) -> MpsApiError:
    """
    Turn whatever a call through the SDK raised into one error that tells what it means for another try.

    :param error: raised by the SDK, or by the HTTP library below it
    :param context: which call failed, about which task, with which connection
    :raises Exception: ``error`` itself, when it is none that a call can raise
    """
    import httpx
    import requests
    from tencentcloud.common.exception import TencentCloudSDKException

    if isinstance(error, MpsApiError):
        return api_error(error.code, error.message, error.request_id, error.context or context)
    if isinstance(error, TencentCloudSDKException):
        if error.code == "ClientNetworkError" and isinstance(error.__context__, Exception):
            return to_api_error(error.__context__, context)
        message = error.message
        if isinstance(message, bytes):  # the body of a gateway's answer
            message = f"the answer's HTTP status is not 200: {_quote(message)}"
        return api_error(str(error.code), str(message), error.requestId or "", context)
    if isinstance(error, requests.RequestException | httpx.HTTPError | OSError):
        code = NOT_SENT if never_sent(error) else OUTCOME_UNKNOWN
        return api_error(code, f"{type(error).__name__}: {error}", context=context)
    if isinstance(error, ValueError | KeyError | TypeError | AttributeError | RecursionError):
        # The SDK's parser stumbles over an answer that is not JSON, or is none of the API's.
        return api_error(INVALID_RESPONSE, f"the answer cannot be read: {error!r:.{_QUOTED}}", context=context)
    raise error


def never_sent(error: Exception) -> bool:
    """Tell whether a network error proves that the server did not get the request."""
    import ssl

    import httpx
    import requests
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProxyError

    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError):
        return True
    if isinstance(error, requests.exceptions.ConnectTimeout | requests.exceptions.ProxyError):
        return True
    if isinstance(error, requests.exceptions.ConnectionError):
        reason = getattr(error.args[0], "reason", None) if error.args else None
        # A TLS error other than a refused certificate may also come from an established connection.
        refused = isinstance(_root(reason), ssl.SSLCertVerificationError)
        return refused or isinstance(reason, NewConnectionError | ConnectTimeoutError | ProxyError)
    return False


def _root(error: BaseException | None) -> BaseException | None:
    while error is not None and error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    return error


def _quote(body: bytes) -> str:
    return repr(body.decode("utf-8", "replace")[:_QUOTED])


def _sync_client(connection: MpsConnection, credential: Credential, service: str = "mps") -> Any:
    from tencentcloud.common.common_client import CommonClient

    if service == "sts":
        return CommonClient("sts", STS_VERSION, credential, STS_REGION, _profile(connection, connection.sts_endpoint))
    return CommonClient("mps", API_VERSION, credential, connection.region, _profile(connection, connection.endpoint))


def _profile(connection: MpsConnection, endpoint: str) -> Any:
    from tencentcloud.common.profile.client_profile import ClientProfile
    from tencentcloud.common.profile.http_profile import HttpProfile

    _silence_sdk()
    http = HttpProfile(
        protocol=connection.scheme,
        # Always given: the SDK's international and mainland editions differ in the default.
        endpoint=endpoint,
        reqTimeout=connection.timeout,
        keepAlive=True,
        proxy=connection.proxy,
    )
    # No retryer: the SDK's own repeats a call that has succeeded after a throttled one.
    return ClientProfile(httpProfile=http, language="en-US")


def _silence_sdk() -> None:
    """Keep the SDK's debug log, which holds tokens, signatures and texts, out of a DAG run at DEBUG."""
    logger = logging.getLogger("tencentcloud_sdk_common")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
