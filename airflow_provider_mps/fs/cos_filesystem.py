"""
The fsspec filesystem of ``cos://``: s3fs, which COS speaks, with the keys of a Tencent connection.

Importing this imports s3fs, and fails without it; :mod:`.cos` is what others import.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiobotocore.credentials import AioCredentials
from aiobotocore.session import AioSession
from airflow.providers.common.compat.sdk import mask_secret
from botocore.credentials import ReadOnlyCredentials
from fsspec.asyn import sync_wrapper
from s3fs import S3FileSystem

from airflow_provider_mps.connection_form import DEFAULT_CONN_ID
from airflow_provider_mps.fs.cos_place import CosPlace, require_bucket
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.own_thread import in_own_thread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_mps.credentials import Credential, FreshKeys, Keys

_NOTHING_OF_AWS = dict.fromkeys(("profile", "config_file", "credentials_file"), (None, None, None, None))
"""What a worker has set up for AWS, a profile above all, is not meant for COS."""


_forbid_overwrite: ContextVar[bool] = ContextVar("mps_forbid_overwrite", default=False)
"""Whether the request of this context may only create an object."""


class CosFileSystem(S3FileSystem):  # type: ignore[misc]
    """
    Buckets of Tencent's COS, by its S3 API.

    ``fsspec.open("cos://mps_default@bucket-1250000000/key.wav")`` works as ``ObjectStoragePath`` does. The connection
    is looked up at the first request, and temporary keys are renewed in time for each; none is an argument, so none is
    in what fsspec keeps, prints or pickles.

    Making one never fails: where that does, Airflow takes the filesystem of the default connection without a word.

    :param conn_id: an Airflow connection of type ``tencent_mps``
    :param client_kwargs: of ``s3fs.S3FileSystem``; goes before what COS needs, as ``config_kwargs`` does
    :param config_kwargs: of ``s3fs.S3FileSystem``
    :param options: the rest of ``s3fs.S3FileSystem``
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
        self._looking_up = asyncio.Lock()
        session = AioSession(_NOTHING_OF_AWS)
        session._credentials = self._keys
        session.get_component("event_emitter").register_last("before-call.s3", _suit_cos)
        super().__init__(
            session=session, client_kwargs=dict(client_kwargs or {}), config_kwargs=dict(config_kwargs or {}), **options
        )

    async def set_session(self, refresh: bool = False, kwargs: Any = None) -> Any:  # noqa: FBT001, FBT002 - s3fs's signature
        """
        Connect, if that has not been done.

        :raises InvalidMpsConnectionError: when the connection is missing or must be mended, or tells no region
        """
        async with self._looking_up:
            if self._keys.fresh is None:
                # It asks Airflow, maybe over a network: fsspec has but one event loop for all filesystems.
                place, fresh = await in_own_thread(lambda: _look_up(self.conn_id))
                self.endpoint_url = place.endpoint
                self.client_kwargs = {"region_name": place.region, **self.client_kwargs}
                self.config_kwargs = {**place.botocore_config, **self.config_kwargs}
                self._keys.fresh = fresh
        return await super().set_session(refresh)

    _connect = set_session
    connect = sync_wrapper(set_session)

    async def _call_s3(self, method: str, *options: Any, **arguments: Any) -> Any:
        """Send a request of S3; ``IfNoneMatch="*"``, also of an upload that begins, in the way that COS understands."""
        if arguments.get("IfNoneMatch") != "*":
            return await super()._call_s3(method, *options, **arguments)
        del arguments["IfNoneMatch"]
        outer = _forbid_overwrite.set(True)
        try:
            return await super()._call_s3(method, *options, **arguments)
        finally:
            _forbid_overwrite.reset(outer)

    call_s3 = sync_wrapper(_call_s3)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        """Drop the scheme, and the connection id that may follow it."""
        stripped = super()._strip_protocol(path)
        if isinstance(stripped, str):
            bucket, slash, key = stripped.partition("/")
            return f"{bucket.rpartition('@')[2]}{slash}{key}"
        return stripped

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        """Read what a URL tells beside bucket and key, for who opens it with fsspec alone."""
        user, _, _ = urlsplit(path).netloc.rpartition("@")
        return {**S3FileSystem._get_kwargs_from_urls(path), **({"conn_id": user} if user else {})}

    def split_path(self, path: str) -> tuple[str, str, str | None]:
        """
        Return bucket, key and version; every request comes by here.

        :raises InvalidRequestError: when the bucket lacks its APPID
        """
        bucket, key, version = super().split_path(path)
        require_bucket(bucket)
        return bucket, key, version


def _look_up(conn_id: str) -> tuple[CosPlace, FreshKeys]:
    from airflow_provider_mps.client import credential_of
    from airflow_provider_mps.credentials import FreshKeys

    connection = MpsHook(conn_id).look_up()
    return CosPlace.of(connection), FreshKeys(_Masked(credential_of(connection)))


class _Masked:
    """A credential whose temporary tokens Airflow masks in logs: at DEBUG, botocore logs every header."""

    def __init__(self, source: Credential) -> None:
        self._source = source
        self._token: str | None = None

    def get_credential_info(self) -> Keys:
        keys = self._source.get_credential_info()
        if keys[2] and keys[2] != self._token:
            mask_secret(keys[2])
            self._token = keys[2]
        return keys


class _Keys(AioCredentials):  # type: ignore[misc]
    """Asks for keys that will do whenever a request is signed."""

    def __init__(self) -> None:
        self.fresh: FreshKeys | None = None
        self.method = "tencent_mps"

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        if self.fresh is None:
            raise RuntimeError("set_session() comes first")
        await self.fresh.renew()
        return ReadOnlyCredentials(*self.fresh.get_credential_info())


def _suit_cos(params: dict[str, Any], **_: Any) -> None:
    """Change what botocore is about to send where COS differs from S3."""
    # aiohttp waits without a limit for who does not answer to it, as proxies are known not to.
    params["headers"].pop("Expect", None)
    if _forbid_overwrite.get():
        params["headers"]["x-cos-forbid-overwrite"] = "true"
    checksum = params["context"].get("checksum", {})
    if isinstance(params["body"], bytes) and checksum.pop("request_algorithm", None):
        # Where S3 requires a checksum, as for DeleteObjects, COS takes none but this.
        digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
        params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
