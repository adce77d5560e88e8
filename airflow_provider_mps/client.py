"""
The Tencent Cloud SDK's clients: they sign and send, and what comes back is read here, for all of them alike.

Importing this imports the SDK; hooks do so when the first call is made.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.answer import MAX_BYTES, read_answer
from airflow_provider_mps.errors import (
    NOT_SENT,
    InvalidMpsConnectionError,
    MpsApiError,
    MpsPermanentError,
    api_error,
    refuses_credentials,
)
from airflow_provider_mps.network_settings import TRANSIENT_OS_ERRORS, find_ca_file, find_proxy
from airflow_provider_mps.redaction import cause_of, keep_requests_out_of_logs, keep_secrets_out_of_sdk_log
from airflow_provider_mps.sdk_installation import require_usable_version, unusable_sdk

try:
    import httpx
    import tencentcloud
    from tencentcloud.common import common_client, common_client_async
    from tencentcloud.common.profile.client_profile import ClientProfile
    from tencentcloud.common.profile.http_profile import HttpProfile

    from airflow_provider_mps.credentials import FreshKeys, make_credential
    from airflow_provider_mps.network_errors import to_api_error
except (ImportError, AttributeError) as error:
    raise unusable_sdk(f"{type(error).__name__}: {error}") from error
require_usable_version(tencentcloud.__version__)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from airflow_provider_mps.connection import MpsConnection
    from airflow_provider_mps.credentials import Credential

API_VERSION = "2019-06-12"
STS_VERSION = "2018-08-13"
IDLE = 2.0
"""Seconds after which a connection is not used again; servers close theirs after five, or more."""
STS_REGION = "ap-guangzhou"  # STS answers alike in every region, but wants one named


class Client(common_client.CommonClient):  # type: ignore[misc]
    """The SDK's client, with :meth:`ask` beside its own calls."""

    def __init__(
        self, service: str, version: str, credential: Credential | None, region: str, profile: ClientProfile
    ) -> None:
        super().__init__(service, version, credential, region, profile)
        # The SDK finds a proxy of its own where it was given none, by other rules than find_proxy().
        proxy = profile.httpProfile.proxy
        self.request.conn.proxy = {"http": proxy, "https": proxy} if proxy else None
        session = self.request.conn._session
        # A redirect would send the text and the token elsewhere, and a submit twice.
        session.get_redirect_target = lambda _: None
        # A machine's .netrc would take the place of the signature, and proxy variables that of the proxy.
        session.trust_env = False

    def ask(self, action: str, params: dict[str, Any]) -> dict[str, Any]:
        """
        Make a call, and return the ``Response`` object of its answer.

        :raises MpsApiError: when the API refuses, or the answer cannot be read
        """
        deadline = time.monotonic() + self.profile.httpProfile.reqTimeout
        answer = self._call(action, params)
        with answer:
            return read_answer(answer.status_code, _read_body(answer, deadline))


class AsyncClient(common_client_async.CommonClient):  # type: ignore[misc]
    """The SDK's asynchronous client, with :meth:`ask` beside its own calls."""

    credential: FreshKeys

    def __init__(self, connection: MpsConnection, credential: FreshKeys) -> None:
        # Not the SDK's constructor. It makes an HTTP client that reads the environment's proxies by httpx's rules and
        # fails where these do, that passes a proxy under a name unknown to httpx 0.28, and that keeps connections idle
        # until servers close them: it would then be unknown whether a submit was accepted.
        self._service, self._apiVersion = "mps", API_VERSION
        self.credential = credential
        self.region = connection.region
        self.profile = _make_profile(connection, connection.endpoint)
        self.circuit_breaker = None
        self.request_client = self._sdkVersion
        self.http_client = _make_http_client(connection.timeout, self.profile.httpProfile)
        self.connection = connection
        """What it was made from."""

    async def ask(
        self, action: str, params: dict[str, Any], before_sending: Callable[[], Awaitable[None]] | None = None
    ) -> dict[str, Any]:
        """
        Do :meth:`Client.ask` in an event loop.

        :param before_sending: awaited when the connection is established, right before the request is written to it;
            what it raises is raised here, and nothing was sent
        """
        await self.credential.renew()
        # Not compressed, so that the limit on what is read is one on what is kept.
        request = self._build_req(action, params, {"Accept-Encoding": "identity"}, {})
        request.extensions["timeout"] = self.http_client.timeout.as_dict()
        if before_sending is not None:
            request.extensions["trace"] = _call_before_sending(before_sending)
        async with _timeout(self.profile.httpProfile.reqTimeout):
            answer = await self.http_client.send(request, stream=True)
            try:
                body = b""
                async for block in answer.aiter_raw():
                    body += block
                    if len(body) > MAX_BYTES:
                        break
            finally:
                await answer.aclose()
        return read_answer(answer.status_code, body)


@asynccontextmanager
async def _timeout(seconds: float) -> AsyncIterator[None]:
    """
    Limit the time a little above the client's own time-outs, whose errors say whether a connection was made.

    The last second begins when the event loop notices that the others are over: what came in while the whole process
    was suspended is read.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        timer = loop.call_later(seconds, lambda: limit.reschedule(loop.time() + 1))
        try:
            yield
        finally:
            timer.cancel()


def _call_before_sending(before_sending: Callable[[], Awaitable[None]]) -> Callable[[str, Any], Awaitable[None]]:
    """Return what httpcore calls at each step of a request. https://www.encode.io/httpcore/extensions/#trace"""

    async def trace(step: str, _: Any) -> None:
        if step.endswith("send_request_headers.started"):
            await before_sending()

    return trace


def make_client(connection: MpsConnection) -> Client:
    """
    Make a client for MPS, meant to be kept.

    :raises InvalidMpsConnectionError: if it cannot be made until the connection or the environment is corrected
    :raises MpsApiError: if it cannot be made at the moment
    """
    with _classified_errors(connection):
        profile = _make_profile(connection, connection.endpoint)
        return Client("mps", API_VERSION, credential_of(connection), connection.region, profile)


def make_async_client(connection: MpsConnection) -> AsyncClient:
    """
    Make an asynchronous client for MPS, meant to be kept.

    It blocks, for it reads certificates and may look for credentials: call it in a thread.

    :raises InvalidMpsConnectionError: if it cannot be made until the connection or the environment is corrected
    :raises MpsApiError: if it cannot be made at the moment
    """
    keep_requests_out_of_logs()
    with _classified_errors(connection):
        return AsyncClient(connection, FreshKeys(credential_of(connection)))


def make_sts_client(connection: MpsConnection, endpoint: str, credential: Credential | None, scheme: str) -> Client:
    """
    Make a client for STS, with the proxy and the certificates that apply there.

    :param connection: gives the proxy and the timeout
    :param endpoint: the host
    :param credential: what to sign with; ``None`` for calls that are not signed
    :param scheme: ``https`` or ``http``
    """
    profile = _make_profile(replace(connection, scheme=scheme), endpoint)
    return Client("sts", STS_VERSION, credential, STS_REGION, profile)


@contextmanager
def _classified_errors(connection: MpsConnection) -> Iterator[None]:
    """Raise what goes wrong while a client is made as an error that says whether a retry can help."""
    try:
        yield
    except (InvalidMpsConnectionError, MpsApiError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, waiting would repeat it for ever
        context = f"Making a client for connection '{connection.conn_id}'"
        if isinstance(error, OSError) and error.errno in TRANSIENT_OS_ERRORS:
            raise api_error(NOT_SENT, f"{type(error).__name__}: {error.strerror}", context=context) from None
        # Neither quoted nor kept as the cause: a library's error may hold the proxy's URL with its password.
        reason = f"ImportError: {error}" if isinstance(error, ImportError) else type(error).__name__
        raise InvalidMpsConnectionError(
            f"{context} failed with {reason}, and nothing was sent. Check the connection's fields, the "
            "proxy and certificate variables of the environment, and the installed packages."
        ) from None


def credential_of(connection: MpsConnection) -> Credential:
    """Choose the credential that a connection signs with; see :func:`~.credentials.make_credential`."""

    def assume_role(base: Credential, parameters: dict[str, Any]) -> dict[str, Any]:
        sts = make_sts_client(connection, connection.sts_endpoint, base, connection.scheme)
        context = f"Assuming the role {connection.shown_role} of connection '{connection.conn_id}'"
        try:
            return sts.ask("AssumeRole", parameters)
        except Exception as error:  # noqa: BLE001 - raised as what it means
            failure = to_api_error(error, context)
            if isinstance(failure, InvalidMpsConnectionError):
                raise failure from None
            if refuses_credentials(failure.code):
                raise failure from cause_of(error)  # the hook looks the connection up again: its keys may have changed
            if isinstance(failure, MpsPermanentError):
                raise InvalidMpsConnectionError(f"{failure} Check Role ARN, and who may assume it.") from cause_of(
                    error
                )
            # Whatever became of this request, the one that needed the role was never sent.
            message = f"{failure.code}: {failure.message}"
            raise api_error(f"{NOT_SENT}.NoRole", message, failure.request_id, context) from cause_of(error)

    return make_credential(connection, assume_role)


def _make_profile(connection: MpsConnection, endpoint: str) -> ClientProfile:
    keep_secrets_out_of_sdk_log()
    http = HttpProfile(
        protocol=connection.scheme,
        # Always given: the SDK's international and mainland editions differ in the default.
        endpoint=endpoint,
        reqTimeout=connection.timeout,
        keepAlive=True,
        proxy=find_proxy(f"{connection.scheme}://{endpoint}", connection.proxy, connection.conn_id),
        certification=find_ca_file(),
    )
    # No retryer: the SDK's own repeats a call that has succeeded after a throttled one.
    return ClientProfile(httpProfile=http, language="en-US")


def _make_http_client(timeout: float, profile: HttpProfile) -> httpx.AsyncClient:
    trusted = ssl.create_default_context(cafile=profile.certification) if profile.certification else None
    proxy = None
    if profile.proxy:
        # httpcore accepts certificates only for a proxy that itself speaks TLS.
        proxy = httpx.Proxy(profile.proxy, ssl_context=trusted if profile.proxy.startswith("https:") else None)
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=IDLE)
    return httpx.AsyncClient(timeout=timeout, proxy=proxy, verify=trusted or True, trust_env=False, limits=limits)


def _read_body(answer: Any, deadline: float) -> bytes:
    """Read an answer to its end, its limit or the deadline: the SDK's time-out bounds only each wait for more."""
    body = b""
    while block := answer.raw.read1(64 * 1024, decode_content=True):
        body += block
        if len(body) > MAX_BYTES:
            break
        if time.monotonic() > deadline:
            raise TimeoutError("the answer took longer than the connection's timeout")
    return body
