"""
From a checked connection to the SDK's credentials, in the order a user would expect.

Importing this imports the SDK; hooks do so when the first call is made.
"""

from __future__ import annotations

import asyncio
import configparser
import json
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Protocol
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import ProxyHandler, build_opener

from tencentcloud.common import credential as sdk
from tencentcloud.common.exception import TencentCloudSDKException

from airflow_provider_mps.errors import NOT_SENT, ErrorClass, InvalidMpsConnectionError, api_error, classify
from airflow_provider_mps.network_settings import TRANSIENT_OS_ERRORS
from airflow_provider_mps.own_thread import in_own_thread
from airflow_provider_mps.redaction import cause_of, describe_error, redact

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_mps.connection import MpsConnection

ROLE_DURATION = 7200
"""Seconds that the temporary keys of an assumed role live."""
RENEW_BEFORE = 300
"""Seconds before their end at which they are renewed: a request in flight must not outlive them."""
LOOK_AGAIN = 5.0
"""Seconds after which an event loop asks a credential again whether its keys still do."""
METADATA_TIMEOUT = 2.0
"""Seconds that a CVM's metadata service, a few hops away, may take."""

Keys = tuple[str, str, str | None]


class Credential(Protocol):
    """What the SDK's clients ask of a credential for every request."""

    def get_credential_info(self) -> Keys:
        """Return SecretId, SecretKey and token; may block while it renews them."""


def make_credential(
    connection: MpsConnection, assume_role: Callable[[Credential, dict[str, Any]], dict[str, Any]]
) -> Credential:
    """
    Choose the credential: the connection's keys or, without a login, the SDK's default chain (environment,
    profile file, CVM role, TKE identity); then, where the connection names a role, that role.

    :param connection: the checked connection
    :param assume_role: makes STS's ``AssumeRole`` call with a credential and parameters and returns its answer
    :raises InvalidMpsConnectionError: when there is nothing to sign with
    """
    base = _static_keys(connection) if connection.secret_id else _default_chain(connection)
    if connection.role_arn is None:
        return base
    parameters = {
        "RoleArn": connection.role_arn,
        "RoleSessionName": connection.role_session_name,
        "DurationSeconds": ROLE_DURATION,
    }
    return AssumedRole(lambda: assume_role(base, parameters))


class AssumedRole:
    """
    Temporary keys of a role, renewed before they end.

    The SDK's own class for this knows neither a proxy nor a time-out nor keys that carry a token.

    :param assume: makes the ``AssumeRole`` call and returns its answer
    """

    def __init__(self, assume: Callable[[], dict[str, Any]]) -> None:
        self._assume = assume
        self._lock = threading.Lock()
        self._keys: Keys | None = None
        self._renew_at = 0.0

    def get_credential_info(self) -> Keys:
        """Return SecretId, SecretKey and token of the role; blocks while it renews them."""
        with self._lock:
            if self._keys is None or time.time() >= self._renew_at:
                self._keys, expires_at = _read_role(self._assume())
                # Never at once again, however short the server makes them live: signing must not block.
                self._renew_at = max(expires_at - RENEW_BEFORE, time.time() + 1)
            return self._keys


def _read_role(answer: dict[str, Any]) -> tuple[Keys, float]:
    """Return the keys, and when they end, in seconds since 1970."""
    try:
        given = answer["Credentials"]
        secret_id, secret_key, token = given["TmpSecretId"], given["TmpSecretKey"], given["Token"]
        expires_at = float(answer["ExpiredTime"])
    except (KeyError, TypeError, ValueError):
        secret_id = secret_key = token = expires_at = None
    if not (secret_id and secret_key and token and expires_at):
        request_id = str(answer.get("RequestId") or "")
        raise api_error(f"{NOT_SENT}.NoRole", "STS answered to AssumeRole without usable keys", request_id)
    return (secret_id, secret_key, token), expires_at


def _static_keys(connection: MpsConnection) -> Credential:
    static: Credential = sdk.Credential(connection.secret_id, connection.secret_key, connection.token)
    return static


def _default_chain(connection: MpsConnection) -> Credential:
    try:
        return _ChainCredential(_find_in_chain(connection))
    except (configparser.Error, AttributeError, UnicodeDecodeError) as error:
        # Neither quoted nor kept as the cause: the parser's words hold the line, which may be the key.
        raise InvalidMpsConnectionError(
            f"Connection '{connection.conn_id}' has no Login (SecretId), and the profile file of the Tencent Cloud SDK "
            f"(~/.tencentcloud/credentials) cannot be read ({type(error).__name__}). It wants a section [default] with "
            "secret_id and secret_key."
        ) from None
    except (TencentCloudSDKException, OSError) as error:
        if getattr(error, "errno", None) in TRANSIENT_OS_ERRORS:
            raise
        if _runs_on_cvm():
            problem = f"the role of this CVM gave no keys to connection '{connection.conn_id}'"
            raise api_error(f"{NOT_SENT}.NoRole", problem) from cause_of(error)
        raise InvalidMpsConnectionError(
            f"Connection '{connection.conn_id}' has no Login (SecretId), and the Tencent Cloud SDK's default chain "
            f"found no credentials in the environment, a profile file, a CVM role or a TKE identity; of the last it "
            f"says: {describe_error(error)}. Set Login and Password in the connection, or TENCENTCLOUD_SECRET_ID and "
            "TENCENTCLOUD_SECRET_KEY in the worker's environment."
        ) from cause_of(error)


def _find_in_chain(connection: MpsConnection) -> Credential:
    """Find what the SDK's ``DefaultCredentialProvider`` finds, where requests follow the rules of all others here."""
    pod = _PodIdentity(connection)
    for provider in (sdk.EnvironmentVariableCredential(), sdk.ProfileCredential(), _MachineRole()):
        found: Credential | None = provider.get_credential()
        if found is not None:
            return found
    pod.read_environment()
    return pod


class _MachineRole(sdk.CVMRoleCredential):  # type: ignore[misc]
    """The role of a CVM. The SDK's own asks the metadata service through the environment's proxy and waits for ever."""

    role: str | None

    def get_role_name(self) -> str:
        self.role = self.role or _ask_metadata(self._role_endpoint).decode()
        return str(self.role)

    def update_credential(self) -> None:
        if not self._need_refresh():
            return
        # As in the SDK's own: what is there stays, and an absent credential is the sign of a failure.
        with suppress(OSError, HTTPException, ValueError, KeyError, AttributeError):
            keys = json.loads(_ask_metadata(self._role_endpoint + quote(self.get_role_name())))
            if keys.get("Code") == "Success":
                found = keys["TmpSecretId"], keys["TmpSecretKey"], keys["Token"], keys["ExpiredTime"]
                self._secret_id, self._secret_key, self._token, self._expired_ts = found


class _PodIdentity(sdk.OIDCRoleArnCredential):  # type: ignore[misc]
    """The identity of a TKE pod. The SDK's own call to STS has another rule for proxies, and bundled certificates."""

    def __init__(self, connection: MpsConnection) -> None:
        super().__init__("", "", "", "", "", ROLE_DURATION)
        self._connection = connection

    def read_environment(self) -> None:
        self._init_from_tke()

    def refresh(self) -> None:
        from airflow_provider_mps.client import make_sts_client  # noqa: PLC0415 - it imports this module

        self.read_environment()
        parameters = {
            "ProviderId": self._provider_id,
            "WebIdentityToken": self._web_identity_token,
            "RoleArn": self._role_arn,
            "RoleSessionName": self._role_session_name,
            "DurationSeconds": self._duration_seconds,
        }
        sts = make_sts_client(self._connection, self._endpoint, None, "https")
        answer = sts.call_json(self._action, parameters, options={"SkipSign": True})["Response"]
        (self._tmp_secret_id, self._tmp_secret_key, self._token), expires_at = _read_role(answer)
        self._expired_time = expires_at - self._duration_seconds * 0.1


def _ask_metadata(url: str) -> bytes:
    """Query the metadata service. A proxy would answer with the role of the machine that it runs on."""
    with build_opener(ProxyHandler({})).open(url, timeout=METADATA_TIMEOUT) as answer:
        body: bytes = answer.read()
        return body


def _runs_on_cvm() -> bool:
    """Tell whether there is a metadata service: the SDK takes one that stumbles for none."""
    try:
        return bool(_ask_metadata(sdk.CVMRoleCredential._role_endpoint).strip())
    except HTTPError as error:
        return error.code >= HTTPStatus.INTERNAL_SERVER_ERROR
    except (OSError, HTTPException):
        return False


class _ChainCredential:
    """
    A credential of the SDK's default chain, whose renewals fail in the SDK's many ways.

    :param found: the credential
    """

    def __init__(self, found: Credential) -> None:
        self._found = found

    def get_credential_info(self) -> Keys:
        """Return SecretId, SecretKey and token; blocks while it renews them."""
        try:
            keys = self._found.get_credential_info()
        except TencentCloudSDKException as error:
            refused = classify(str(error.get_code())) is ErrorClass.PERMANENT
            code = str(error.get_code()) if refused else f"{NOT_SENT}.NoRole"
            raise api_error(
                code, f"no temporary keys: {redact(str(error.get_message()))}", str(error.get_request_id() or "")
            ) from cause_of(error)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise api_error(f"{NOT_SENT}.NoRole", f"no temporary keys: {describe_error(error)}") from cause_of(error)
        if not (keys[0] and keys[1]):
            raise api_error(f"{NOT_SENT}.NoRole", "the machine's role gave no keys")
        return keys


class FreshKeys:
    """
    The keys of a credential for an event loop: renewed in a thread of their own, so that signing never blocks.

    :param source: the credential
    """

    def __init__(self, source: Credential) -> None:
        self._source = source
        self._keys: Keys | None = None
        self._look_again_at = 0.0
        self._renewal: asyncio.Future[Keys] | None = None

    def get_credential_info(self) -> Keys:
        """Return SecretId, SecretKey and token, as :meth:`renew` has found them."""
        if self._keys is None:
            raise RuntimeError("renew() comes first")
        return self._keys

    async def renew(self) -> None:
        """
        Have keys that will do for the next request; many who ask at once share one renewal.

        :raises MpsApiError: when there are none for now
        :raises InvalidMpsConnectionError: when there are none until somebody mends the connection
        """
        if self._keys is not None and time.monotonic() < self._look_again_at:
            return
        if self._renewal is None or self._renewal.done():
            self._renewal = in_own_thread(self._source.get_credential_info)
        self._keys = await asyncio.shield(self._renewal)
        self._look_again_at = time.monotonic() + LOOK_AGAIN
