"""
Credentials: the connection's keys, the SDK's default chain, assumed roles, and their refresh.

Importing this module imports the SDK; hooks import it at the first call.
"""

from __future__ import annotations

import asyncio
import configparser
import json
import logging
import os
import threading
import time
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import ProxyHandler, build_opener

from tencentcloud.common import credential as sdk
from tencentcloud.common.exception import TencentCloudSDKException

from airflow_provider_mps.api.network_settings import TRANSIENT_OS_ERRORS
from airflow_provider_mps.concurrency import run_in_daemon_thread
from airflow_provider_mps.error_codes import NO_ROLE, ErrorClass, classify, is_credential_error
from airflow_provider_mps.exceptions import InvalidMpsConnectionError, MpsApiError, MpsPermanentError, make_api_error
from airflow_provider_mps.redaction import describe_error, get_safe_cause, redact

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_mps.api.connection import MpsConnection

    CallSts = Callable[["Credential | None", str, dict[str, Any], str], dict[str, Any]]

log = logging.getLogger(__name__)

ROLE_DURATION_SECONDS = 7200
"""Lifetime of the temporary keys of an assumed role."""
REFRESH_BEFORE_SECONDS = 300
"""Time before their expiry at which keys are refreshed: they must outlive a request in flight."""
RECHECK_SECONDS = 5.0
"""Time after which an event loop checks again whether its keys must be refreshed."""
METADATA_URL = "http://metadata.tencentyun.com/latest/meta-data/cam/security-credentials/"
"""Where a CVM reads its role. https://cloud.tencent.com/document/product/598/85616"""
METADATA_TIMEOUT_SECONDS = 2.0
POD_VARIABLES = ("TKE_REGION", "TKE_PROVIDER_ID", "TKE_WEB_IDENTITY_TOKEN_FILE", "TKE_ROLE_ARN")
"""The environment of a TKE pod with an identity, as the SDK reads it."""

Keys = tuple[str, str, str | None]
"""SecretId, SecretKey and token."""


class Credential(Protocol):
    """What the SDK's clients need of a credential."""

    def get_credential_info(self) -> Keys:
        """Return SecretId, SecretKey and token; may block to refresh them."""


def make_credential(connection: MpsConnection, call_sts: CallSts) -> Credential:
    """
    Choose the credential of a connection.

    This is the connection's keys or, without a login, what the SDK's default chain finds: environment, profile file,
    CVM role, TKE identity. If the connection names a role, these keys assume it.

    :param call_sts: calls STS with a credential (``None``: unsigned), an action, its parameters and a context for
        errors; returns the ``Response`` object
    :raises InvalidMpsConnectionError: if there is no credential
    :raises MpsApiError: if there is none at the moment
    """
    base: Credential
    if connection.secret_id:
        base = sdk.Credential(connection.secret_id, connection.secret_key, connection.token)
    else:
        base = _find_default_credential(connection, call_sts)
    if connection.role_arn is None:
        return base
    return TemporaryCredential(lambda: _assume_role(connection, base, call_sts))


class TemporaryCredential:
    """
    Keys that expire, refreshed before that.

    The SDK's own classes ignore the proxy, the timeout and the certificates that all other requests use.

    :param fetch: returns keys and their expiry in seconds since 1970; blocks
    """

    def __init__(self, fetch: Callable[[], tuple[Keys, float]]) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()
        self._keys: Keys | None = None
        self._refresh_at = self._expires_at = 0.0

    def get_credential_info(self) -> Keys:
        """Return SecretId, SecretKey and token; blocks to refresh them."""
        with self._lock:
            if self._keys is None or time.time() >= self._refresh_at:
                # At most once a second, however soon the keys expire: signing must not block for each request.
                try:
                    self._keys, self._expires_at = self._fetch()
                except MpsApiError as error:
                    if self._keys is None or time.time() >= self._expires_at:
                        raise
                    log.warning("Refreshing temporary keys failed, using the current ones until they expire: %s", error)
                    self._refresh_at = min(self._expires_at, time.time() + 1)
                else:
                    self._refresh_at = max(self._expires_at - REFRESH_BEFORE_SECONDS, time.time() + 1)
            return self._keys


class AsyncCredential:
    """The keys of a credential for an event loop, refreshed in a thread so that signing never blocks."""

    def __init__(self, source: Credential) -> None:
        self._source = source
        self._keys: Keys | None = None
        self._recheck_at = 0.0
        self._refresh_call: asyncio.Future[Keys] | None = None

    def get_credential_info(self) -> Keys:
        """Return the SecretId, SecretKey and token of the last :meth:`refresh`."""
        if self._keys is None:
            raise RuntimeError("refresh() must be awaited first")
        return self._keys

    async def refresh(self) -> None:
        """
        Make sure that the keys are valid for the next request; concurrent callers share one refresh.

        :raises MpsApiError: if there are no keys at the moment
        :raises InvalidMpsConnectionError: if there are none until the connection is fixed
        """
        if self._keys is not None and time.monotonic() < self._recheck_at:
            return
        if self._refresh_call is None or self._refresh_call.done():
            self._refresh_call = run_in_daemon_thread(self._source.get_credential_info)
        self._keys = await asyncio.shield(self._refresh_call)
        self._recheck_at = time.monotonic() + RECHECK_SECONDS


def _find_default_credential(connection: MpsConnection, call_sts: CallSts) -> Credential:
    """Find what the SDK's ``DefaultCredentialProvider`` finds; see :class:`TemporaryCredential` for the difference."""
    try:
        for provider in (sdk.EnvironmentVariableCredential(), sdk.ProfileCredential()):
            found: Credential | None = provider.get_credential()
            if found is not None:
                return found
    except (configparser.Error, AttributeError, UnicodeDecodeError) as error:
        # Neither quoted nor kept as the cause: the parser's text holds the line, which may be the key.
        raise InvalidMpsConnectionError(
            f"Connection '{connection.conn_id}' has no Login (SecretId), and the profile file of the Tencent Cloud SDK "
            f"(~/.tencentcloud/credentials) cannot be read ({type(error).__name__}). It must have a section [default] "
            "with secret_id and secret_key."
        ) from None
    except TencentCloudSDKException as error:
        raise InvalidMpsConnectionError(
            f"Connection '{connection.conn_id}' has no Login (SecretId), and the key in TENCENTCLOUD_SECRET_ID and "
            f"TENCENTCLOUD_SECRET_KEY, or in the profile file, is invalid: {redact(str(error.get_message()))}. Fix it, "
            "or set Login and Password in the connection."
        ) from get_safe_cause(error)
    machine = TemporaryCredential(_fetch_machine_role)
    try:
        machine.get_credential_info()
    except MpsApiError as error:
        machine_error = error
    else:
        return machine
    try:
        _read_pod_identity(connection)
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) in TRANSIENT_OS_ERRORS:
            raise
        if _has_machine_role():
            context = f"Finding credentials for connection '{connection.conn_id}'"
            raise make_api_error(machine_error.code, machine_error.message, context=context) from None
        raise InvalidMpsConnectionError(
            f"Connection '{connection.conn_id}' has no Login (SecretId), and the Tencent Cloud SDK's default chain "
            "found no credentials in the environment, a profile file, a CVM role or a TKE identity "
            f"({describe_error(error)}). Set Login and Password in the connection, or TENCENTCLOUD_SECRET_ID and "
            "TENCENTCLOUD_SECRET_KEY in the worker's environment."
        ) from get_safe_cause(error)
    return TemporaryCredential(lambda: _fetch_pod_role(connection, call_sts))


def _assume_role(connection: MpsConnection, base: Credential, call_sts: CallSts) -> tuple[Keys, float]:
    parameters = {
        "RoleArn": connection.role_arn,
        "RoleSessionName": connection.role_session_name,
        "DurationSeconds": ROLE_DURATION_SECONDS,
    }
    context = f"Assuming the role {connection.role_for_messages} of connection '{connection.conn_id}'"
    try:
        response = call_sts(base, "AssumeRole", parameters, context)
    except MpsApiError as error:
        if is_credential_error(error.code):
            raise  # the hook looks up the connection again: its keys may have changed
        if isinstance(error, MpsPermanentError):
            advice = "Check Role ARN, and that these keys may assume it."
            raise InvalidMpsConnectionError(f"{error} {advice}") from get_safe_cause(error)
        raise _make_not_sent_error(error) from get_safe_cause(error)
    return _parse_role(response)


def _fetch_pod_role(connection: MpsConnection, call_sts: CallSts) -> tuple[Keys, float]:
    context = f"Assuming the role of this pod for connection '{connection.conn_id}'"
    try:
        response = call_sts(None, "AssumeRoleWithWebIdentity", _read_pod_identity(connection), context)
    except MpsApiError as error:
        if classify(error.code) is ErrorClass.PERMANENT:
            raise
        raise _make_not_sent_error(error) from get_safe_cause(error)
    except (OSError, ValueError) as error:
        raise make_api_error(NO_ROLE, describe_error(error), context=context) from get_safe_cause(error)
    return _parse_role(response)


def _read_pod_identity(connection: MpsConnection) -> dict[str, Any]:
    missing = [name for name in POD_VARIABLES if not os.environ.get(name)]
    if missing:
        raise OSError(f"{missing[0]} is not set")
    return {
        "ProviderId": os.environ["TKE_PROVIDER_ID"],
        "WebIdentityToken": Path(os.environ["TKE_WEB_IDENTITY_TOKEN_FILE"]).read_text(),
        "RoleArn": os.environ["TKE_ROLE_ARN"],
        "RoleSessionName": connection.role_session_name,
        "DurationSeconds": ROLE_DURATION_SECONDS,
    }


def _parse_role(response: dict[str, Any]) -> tuple[Keys, float]:
    request_id = str(response.get("RequestId") or "")
    return _parse_keys("STS", response.get("Credentials"), response.get("ExpiredTime"), request_id)


def _fetch_machine_role() -> tuple[Keys, float]:
    try:
        role = json.loads(_query_metadata(quote(_query_metadata().decode())))
    except (OSError, HTTPException, ValueError) as error:
        problem = f"the metadata service of this CVM gave no keys: {describe_error(error)}"
        raise make_api_error(NO_ROLE, problem) from get_safe_cause(error)
    is_success = isinstance(role, dict) and role.get("Code") == "Success"
    return _parse_keys("the metadata service", role, role.get("ExpiredTime") if is_success else None)


def _has_machine_role() -> bool:
    """Return whether a metadata service names a role, or fails for the moment."""
    try:
        return bool(_query_metadata().strip())
    except HTTPError as error:
        return error.code >= HTTPStatus.INTERNAL_SERVER_ERROR
    except (OSError, HTTPException):
        return False


def _query_metadata(name: str = "") -> bytes:
    """Query the metadata service without a proxy, which would respond with the role of its own machine."""
    with build_opener(ProxyHandler({})).open(METADATA_URL + name, timeout=METADATA_TIMEOUT_SECONDS) as response:
        body: bytes = response.read()
        return body


def _parse_keys(source: str, keys: Any, expires_at: Any, request_id: str = "") -> tuple[Keys, float]:
    try:
        parsed = keys["TmpSecretId"], keys["TmpSecretKey"], keys["Token"]
        if all(parsed) and expires_at:
            return parsed, float(expires_at)
    except (KeyError, TypeError, ValueError):
        pass
    raise make_api_error(NO_ROLE, f"{source} responded without usable keys", request_id)


def _make_not_sent_error(error: MpsApiError) -> MpsApiError:
    """Return the error for the request that needed the role: it was not sent, whatever the outcome of the STS call."""
    return make_api_error(NO_ROLE, f"{error.code}: {error.message}", error.request_id, error.context)
