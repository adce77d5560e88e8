"""
Clients for MPS and STS: the Tencent Cloud SDK signs and sends, and this module reads the responses.

Importing this module imports the SDK; hooks import it at the first call.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_mps.api.network_settings import (
    TRANSIENT_OS_ERRORS,
    SharedTlsAdapter,
    find_proxy,
    get_tls_context,
)
from airflow_provider_mps.api.response import MAX_RESPONSE_BYTES, parse_response
from airflow_provider_mps.api.sdk_installation import make_sdk_error, validate_sdk_version
from airflow_provider_mps.error_codes import NOT_SENT, OUTCOME_UNKNOWN, ErrorClass
from airflow_provider_mps.exceptions import InvalidMpsConnectionError, MpsApiError, make_api_error
from airflow_provider_mps.redaction import set_default_log_level

try:
    import httpx
    import tencentcloud
    from tencentcloud.common import common_client, common_client_async
    from tencentcloud.common.profile.client_profile import ClientProfile
    from tencentcloud.common.profile.http_profile import HttpProfile

    from airflow_provider_mps.api.credentials import AsyncCredential, make_credential
    from airflow_provider_mps.api.network_errors import translate_errors
except (ImportError, AttributeError) as error:
    raise make_sdk_error(f"{type(error).__name__}: {error}") from error
validate_sdk_version(tencentcloud.__version__)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractContextManager

    from airflow_provider_mps.api.actions import ApiCall
    from airflow_provider_mps.api.connection import MpsConnection
    from airflow_provider_mps.api.credentials import Credential

T = TypeVar("T")

API_VERSION = "2019-06-12"
STS_VERSION = "2018-08-13"
STS_REGION = "ap-guangzhou"
"""STS requires a region, and responds alike in all."""
POD_STS_ENDPOINT = ("sts.tencentcloudapi.com", "https")
"""Where a TKE pod exchanges its identity for keys, as in the SDK."""
MAX_IDLE_SECONDS = 2.0
"""Idle seconds after which a connection is not reused. Servers close an idle connection after five seconds or more."""


class Client(common_client.CommonClient):  # type: ignore[misc]
    """
    The SDK's client, with the methods :meth:`call_action` and :meth:`execute`.

    :param service: ``mps`` or ``sts``, with the version of its API
    :param credential: what signs requests; ``None`` for requests without a signature
    """

    def __init__(self, service: str, version: str, connection: MpsConnection, credential: Credential | None) -> None:
        profile = _make_profile(connection)
        if connection.scheme == "https":
            get_tls_context()  # reports unusable certificates before a call is made
        super().__init__(service, version, credential, connection.region, profile)
        self.connection = connection
        # Without a proxy in its profile, the SDK chooses one by other rules than find_proxy().
        proxy = profile.httpProfile.proxy
        self.request.conn.proxy = {"http": proxy, "https": proxy} if proxy else None
        session = self.request.conn._session  # private: the SDK has no public way to its session
        # A redirect would send the text and the token to another server, and a submit twice.
        session.get_redirect_target = lambda _: None
        for prefix in ("https://", "http://"):  # http, too, for a proxy with TLS
            session.mount(prefix, SharedTlsAdapter())
        # Otherwise the library would replace the signature with keys from .netrc, and choose a proxy itself.
        session.trust_env = False

    def call_action(
        self, action: str, params: dict[str, Any], max_response_bytes: int = MAX_RESPONSE_BYTES
    ) -> dict[str, Any]:
        """
        Make a call, and return the ``Response`` object.

        :raises MpsApiError: if the API returns an error, or the response cannot be read
        :raises Exception: of the SDK or the HTTP library
        """
        deadline = time.monotonic() + self.profile.httpProfile.reqTimeout
        # Private: the SDK's public calls read responses of any size, and miss errors; see parse_response().
        with self._call(action, params, {"SkipSign": self.credential is None}) as response:
            body = _read_body(response, deadline, max_response_bytes)
            return parse_response(response.status_code, body, max_response_bytes)

    def execute(self, call: ApiCall[T]) -> T:
        """
        Make a call once, and return its parsed response.

        :raises MpsApiError: if MPS does not respond, or returns an error
        :raises InvalidMpsConnectionError: if the request could not be sent until the connection is fixed
        """
        with _translate_call_errors(call, self.connection):
            client = self._with_timeout(call.timeout) if call.timeout > self.connection.timeout else self
            return call.parse(client.call_action(call.action, call.params, call.max_response_bytes))

    def _with_timeout(self, timeout: float) -> Client:
        """Return a client for one call; the timeout of this one cannot be changed for a single thread."""
        # Also to connect, because urllib3 sends the whole body within that time.
        return Client(self._service, self._apiVersion, replace(self.connection, timeout=timeout), self.credential)


class AsyncClient(common_client_async.CommonClient):  # type: ignore[misc]
    """The SDK's asynchronous client, with the methods :meth:`call_action` and :meth:`execute`."""

    credential: AsyncCredential

    def __init__(self, connection: MpsConnection, credential: AsyncCredential) -> None:
        # Private attributes, because the SDK's constructor cannot be used. Its HTTP client reads proxies from the
        # environment by httpx's rules, and fails if they are invalid. It passes a proxy under a name that httpx 0.28
        # does not know. It reuses a connection until the server closes it: the outcome of a submit is then unknown.
        self._service, self._apiVersion = "mps", API_VERSION
        self.credential = credential
        self.region = connection.region
        self.profile = _make_profile(connection)
        self.circuit_breaker = None
        self.request_client = self._sdkVersion
        self.http_client = _make_http_client(self.profile.httpProfile)
        self.connection = connection

    async def call_action(
        self,
        action: str,
        params: dict[str, Any],
        before_sending: Callable[[], Awaitable[None]] | None = None,
        min_timeout: float = 0.0,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> dict[str, Any]:
        """
        Do :meth:`Client.call_action` in an event loop.

        :param before_sending: awaited when the connection is established; if it raises, nothing is sent
        :param min_timeout: seconds to wait for the response, if that is more than the connection's ``timeout``
        """
        await self.credential.refresh()
        # Private: the SDK's public call reads responses of any size, and misses errors; see parse_response().
        # Not compressed, so that MAX_RESPONSE_BYTES limits what is kept in memory.
        request = self._build_req(action, params, {"Accept-Encoding": "identity"}, {})
        seconds = max(min_timeout, self.profile.httpProfile.reqTimeout)
        limits = httpx.Timeout(seconds, connect=self.profile.httpProfile.reqTimeout)
        request.extensions["timeout"] = limits.as_dict()
        if before_sending is not None:

            async def trace(step: str, _: Any) -> None:
                if step.endswith("send_request_headers.started"):
                    await before_sending()

            request.extensions["trace"] = trace  # https://www.encode.io/httpcore/extensions/#trace
        async with _limit_time(seconds):
            response = await self.http_client.send(request, stream=True)
            try:
                body = bytearray()
                async for block in response.aiter_raw():
                    body += block
                    if len(body) > max_response_bytes:
                        break
            finally:
                await response.aclose()
        return parse_response(response.status_code, body, max_response_bytes)

    async def execute(self, call: ApiCall[T], before_sending: Callable[[], Awaitable[None]] | None = None) -> T:
        """Do :meth:`Client.execute` in an event loop; for ``before_sending``, see :meth:`call_action`."""
        with _translate_call_errors(call, self.connection):
            response = await self.call_action(
                call.action, call.params, before_sending, call.timeout, call.max_response_bytes
            )
            return call.parse(response)


def make_client(connection: MpsConnection) -> Client:
    """
    Make a client for MPS.

    :raises InvalidMpsConnectionError: if the connection or the environment must be fixed first
    :raises MpsApiError: if the error is transient
    """
    with _translate_setup_errors(connection):
        return Client("mps", API_VERSION, connection, make_client_credential(connection))


def make_async_client(connection: MpsConnection) -> AsyncClient:
    """
    Do :func:`make_client` for an event loop.

    This blocks to read certificates and look for credentials: run it in a thread.
    """
    # httpx logs each request: waiting for 10,000 tasks would bury all other lines.
    set_default_log_level("httpx", logging.WARNING)
    with _translate_setup_errors(connection):
        return AsyncClient(connection, AsyncCredential(make_client_credential(connection)))


def make_client_credential(connection: MpsConnection) -> Credential:
    """Choose the credential that signs a connection's requests; see :func:`~.credentials.make_credential`."""

    def call_sts(
        credential: Credential | None, action: str, parameters: dict[str, Any], context: str
    ) -> dict[str, Any]:
        endpoint, scheme = (connection.sts_endpoint, connection.scheme) if credential else POD_STS_ENDPOINT
        sts = replace(connection, endpoint=endpoint, scheme=scheme, region=STS_REGION)
        with translate_errors(context):
            return Client("sts", STS_VERSION, sts, credential).call_action(action, parameters)

    return make_credential(connection, call_sts)


def _translate_call_errors(call: ApiCall[Any], connection: MpsConnection) -> AbstractContextManager[None]:
    context = f"{call.action} for {call.subject} with connection '{connection.conn_id}'"
    # An unexpected error may be raised after a submit was sent, so its outcome must count as unknown.
    is_submit = not call.should_retry(ErrorClass.OUTCOME_UNKNOWN)
    return translate_errors(context, OUTCOME_UNKNOWN if is_submit else None)


@contextmanager
def _translate_setup_errors(connection: MpsConnection) -> Iterator[None]:
    try:
        yield
    except (InvalidMpsConnectionError, MpsApiError):
        raise
    except Exception as error:  # noqa: BLE001 - a poller would repeat any other error forever
        context = f"Making a client for connection '{connection.conn_id}'"
        if isinstance(error, OSError) and error.errno in TRANSIENT_OS_ERRORS:
            raise make_api_error(NOT_SENT, f"{type(error).__name__}: {error.strerror}", context=context) from None
        # Neither quoted nor kept as the cause: a library's error may hold the proxy's URL with its password.
        reason = f"ImportError: {error}" if isinstance(error, ImportError) else type(error).__name__
        raise InvalidMpsConnectionError(
            f"{context} failed with {reason}, and nothing was sent. Check the connection's fields, the environment's "
            "proxy and certificate variables, and the installed packages."
        ) from None


def _make_profile(connection: MpsConnection) -> ClientProfile:
    # The SDK's debug log holds tokens, signatures and texts, and Airflow may run at DEBUG.
    set_default_log_level("tencentcloud_sdk_common", logging.INFO)
    url = f"{connection.scheme}://{connection.endpoint}"
    http = HttpProfile(
        protocol=connection.scheme,
        endpoint=connection.endpoint,  # the SDK's international and mainland editions differ in the default
        reqTimeout=connection.timeout,
        keepAlive=True,
        proxy=find_proxy(url, connection.proxy, connection.conn_id),
    )
    # Without the SDK's retryer: once a call was throttled, it sends the call again even after it has succeeded.
    return ClientProfile(httpProfile=http, language="en-US")


def _make_http_client(profile: HttpProfile) -> httpx.AsyncClient:
    is_proxy_tls = bool(profile.proxy) and profile.proxy.startswith("https:")
    uses_tls = profile.scheme == "https" or is_proxy_tls
    # Without TLS, a context that trusts no certificates: otherwise httpx would load the bundled ones.
    tls = get_tls_context() if uses_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # httpcore accepts a TLS context only for a proxy that itself speaks TLS.
    proxy = httpx.Proxy(profile.proxy, ssl_context=tls if is_proxy_tls else None) if profile.proxy else None
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=MAX_IDLE_SECONDS)
    return httpx.AsyncClient(timeout=profile.reqTimeout, proxy=proxy, verify=tls, trust_env=False, limits=limits)


def _read_body(response: Any, deadline: float, max_bytes: int) -> bytearray:
    """Read a body up to its end, the size limit or the deadline; the library's own timeout limits each read only."""
    body = bytearray()
    while block := response.raw.read1(64 * 1024, decode_content=True):
        body += block
        if len(body) > max_bytes:
            break
        if time.monotonic() > deadline:
            raise TimeoutError("the response took longer than the connection's timeout")
    return body


@asynccontextmanager
async def _limit_time(seconds: float) -> AsyncIterator[None]:
    """
    End a call one second after its timeout.

    The HTTP client's own timeouts come first, because their errors say whether a connection was made. The extra second
    starts when the event loop notices the timeout, so a response that came while the process was suspended is read.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        timer = loop.call_later(seconds, lambda: limit.reschedule(loop.time() + 1))
        try:
            yield
        finally:
            timer.cancel()
