"""
The fsspec filesystem of ``cos://``: s3fs with the credentials of a Tencent connection.

This module needs s3fs; import :mod:`.cos` instead, which does not.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiobotocore.credentials import AioCredentials
from aiobotocore.session import AioSession
from airflow.providers.common.compat.sdk import mask_secret
from botocore.credentials import ReadOnlyCredentials
from fsspec.asyn import sync_wrapper
from s3fs import S3FileSystem

from airflow_provider_mps.api.connection_lookup import get_mps_connection
from airflow_provider_mps.api.network_settings import find_ca_file, find_proxy
from airflow_provider_mps.concurrency import run_in_daemon_thread
from airflow_provider_mps.connection_form import DEFAULT_CONN_ID
from airflow_provider_mps.exceptions import InvalidMpsConnectionError, MpsPermanentError
from airflow_provider_mps.fs.cos_endpoint import CosEndpoint, validate_bucket

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_mps.api.credentials import AsyncCredential, Credential, Keys

_NO_AWS_CONFIG = dict.fromkeys(("profile", "config_file", "credentials_file"), (None, None, None, None))
"""Session variables that ignore the worker's AWS configuration, e.g. its profile."""
_forbid_overwrite: ContextVar[bool] = ContextVar("mps_forbid_overwrite", default=False)
"""Whether the requests of this context only create an object that does not exist."""


class CosFileSystem(S3FileSystem):  # type: ignore[misc]
    """
    The filesystem of COS buckets, through their S3 API.

    ``fsspec.open("cos://mps_default@bucket-1250000000/key.wav")`` works as ``ObjectStoragePath`` does. The filesystem
    gets the connection at the first request, and refreshes temporary keys before each request. Keys are not
    arguments, so that fsspec does not cache, print or pickle them.

    Creating a filesystem never fails: on an error, Airflow would silently use the one of the default connection.

    :param conn_id: an Airflow connection of type ``tencent_mps``
    :param client_kwargs: as of ``s3fs.S3FileSystem``; overrides the settings for COS, as ``config_kwargs`` does
    :param options: other arguments of ``s3fs.S3FileSystem``
    """

    protocol = ("cos",)
    client_kwargs: dict[str, Any]
    config_kwargs: dict[str, Any]

    def __init__(
        self,
        conn_id: str = DEFAULT_CONN_ID,
        *,
        client_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.conn_id = conn_id
        self._keys = _Keys()
        self._lookup_lock = asyncio.Lock()
        session = AioSession(_NO_AWS_CONFIG)
        session._credentials = self._keys
        session.get_component("event_emitter").register_last("before-call.s3", _adapt_request)
        super().__init__(
            session=session, client_kwargs=dict(client_kwargs or {}), config_kwargs=dict(config_kwargs or {}), **options
        )

    async def set_session(self, refresh: bool = False, kwargs: Any = None) -> Any:  # noqa: FBT001, FBT002 - s3fs's signature
        """
        Get the connection, if that has not been done, and create the client.

        :raises InvalidMpsConnectionError: if the connection is missing or invalid, or has no region
        """
        async with self._lookup_lock:
            if self._keys.credential is None:
                # In a thread, because Airflow may use the network, and all filesystems share fsspec's event loop.
                endpoint, credential, verify = await run_in_daemon_thread(lambda: _get_connection(self.conn_id))
                self.endpoint_url = endpoint.endpoint
                self.client_kwargs = {"region_name": endpoint.region, "verify": verify, **self.client_kwargs}
                self.config_kwargs = {**endpoint.botocore_config, **self.config_kwargs}
                self._keys.credential = credential
        return await super().set_session(refresh)

    _connect = set_session
    connect = sync_wrapper(set_session)

    async def _call_s3(self, method: str, *options: Any, **arguments: Any) -> Any:
        """Send an S3 request, with ``IfNoneMatch="*"`` translated to the header of COS."""
        if arguments.get("IfNoneMatch") != "*":
            return await super()._call_s3(method, *options, **arguments)
        del arguments["IfNoneMatch"]
        token = _forbid_overwrite.set(True)
        try:
            return await super()._call_s3(method, *options, **arguments)
        finally:
            _forbid_overwrite.reset(token)

    call_s3 = sync_wrapper(_call_s3)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        """Remove the scheme, and the connection id that may follow it."""
        stripped = super()._strip_protocol(path)
        if isinstance(stripped, str):
            bucket, slash, key = stripped.partition("/")
            return f"{bucket.rpartition('@')[2]}{slash}{key}"
        return stripped

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        """Return the connection id of a URL that is opened by fsspec."""
        user, _, _ = urlsplit(path).netloc.rpartition("@")
        return {**S3FileSystem._get_kwargs_from_urls(path), **({"conn_id": user} if user else {})}

    def split_path(self, path: str) -> tuple[str, str, str | None]:
        """
        Return bucket, key and version; s3fs calls this for every request.

        :raises InvalidRequestError: if the bucket has no APPID
        """
        bucket, key, version = super().split_path(path)
        validate_bucket(bucket)
        return bucket, key, version


def _get_connection(conn_id: str) -> tuple[CosEndpoint, AsyncCredential, str | bool]:
    from airflow_provider_mps.api.client import make_client_credential
    from airflow_provider_mps.api.credentials import AsyncCredential

    connection = get_mps_connection(conn_id)
    endpoint = CosEndpoint.from_connection(connection)
    proxy = find_proxy(endpoint.endpoint, endpoint.proxy, conn_id)
    if proxy and proxy.startswith("socks"):
        raise InvalidMpsConnectionError(
            f"Connection '{conn_id}': the environment sets a SOCKS proxy, which COS does not support. Set an HTTP "
            "proxy, or exclude the COS endpoint with NO_PROXY."
        )
    verify = find_ca_file("AWS_CA_BUNDLE") or True
    credential = AsyncCredential(_MaskedCredential(make_client_credential(connection)))
    return replace(endpoint, proxy=proxy), credential, verify


class _MaskedCredential:
    """A credential whose temporary tokens Airflow masks in logs, because botocore logs headers at DEBUG."""

    def __init__(self, source: Credential) -> None:
        self._source = source
        self._token: str | None = None

    def get_credential_info(self) -> Keys:
        try:
            keys = self._source.get_credential_info()
        except MpsPermanentError as error:  # callers of a filesystem do not expect an error of an API
            raise InvalidMpsConnectionError(str(error)) from error
        if keys[2] and keys[2] != self._token:
            mask_secret(keys[2])
            self._token = keys[2]
        return keys


class _Keys(AioCredentials):  # type: ignore[misc]
    """Refreshes the keys, if they are about to expire, whenever a request is signed."""

    def __init__(self) -> None:
        self.credential: AsyncCredential | None = None
        self.method = "tencent_mps"

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        if self.credential is None:
            raise RuntimeError("set_session() has not been called")
        await self.credential.refresh()
        return ReadOnlyCredentials(*self.credential.get_credential_info())


def _adapt_request(params: dict[str, Any], **_: Any) -> None:
    """Change a request of botocore for which COS differs from S3."""
    # aiohttp waits forever for the response to Expect, which some proxies never send.
    params["headers"].pop("Expect", None)
    if _forbid_overwrite.get():
        params["headers"]["x-cos-forbid-overwrite"] = "true"
    checksum = params["context"].get("checksum", {})
    if isinstance(params["body"], bytes) and checksum.pop("request_algorithm", None):
        # COS accepts only an MD5 for requests that need a checksum, e.g. DeleteObjects.
        digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
        params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
