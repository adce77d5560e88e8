"""
The fsspec filesystem of ``cos://``: s3fs, which COS speaks, with the keys of a Tencent connection.

Importing this imports s3fs and Tencent's SDK; it is imported when a path is used.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

try:
    from aiobotocore.credentials import AioCredentials
    from aiobotocore.session import get_session
    from botocore.credentials import ReadOnlyCredentials
    from s3fs import S3FileSystem
except ImportError as error:
    raise ImportError(
        f"cos:// needs packages that are not installed ({error}): pip install 'airflow-provider-mps[cos]'"
    ) from error

from airflow_provider_mps.client import credential_of
from airflow_provider_mps.credentials import FreshKeys
from airflow_provider_mps.fs.cos_place import CosPlace, require_bucket
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.provider_info import DEFAULT_CONN_ID


class CosFileSystem(S3FileSystem):  # type: ignore[misc]
    """
    Buckets of Tencent's COS, by its S3 API.

    ``fsspec.open("cos://mps_default@bucket-1250000000/key.wav")`` works as ``ObjectStoragePath`` does. Keys are looked
    up in the connection when it is made, and temporary ones are renewed in time for each request; none is an argument,
    so none is in what fsspec keeps, prints or pickles.

    :param conn_id: an Airflow connection of type ``tencent_mps``
    :param options: of ``s3fs.S3FileSystem``
    :raises InvalidMpsConnectionError: when the connection is missing, or tells no region
    """

    protocol = ("cos",)

    def __init__(self, conn_id: str = DEFAULT_CONN_ID, **options: Any) -> None:
        connection = MpsHook(conn_id).look_up()
        place = CosPlace.of(connection)
        session = get_session()
        session._credentials = _Keys(FreshKeys(credential_of(connection)))
        super().__init__(
            session=session,
            endpoint_url=place.endpoint,
            client_kwargs={"region_name": place.region},
            config_kwargs=place.botocore_config,
            **options,
        )

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
        """Read the connection id in a URL, for who opens it with fsspec alone."""
        user, at, _ = urlsplit(path).netloc.rpartition("@")
        return {"conn_id": user} if at and user else {}

    def split_path(self, path: str) -> tuple[str, str, str | None]:
        """
        Return bucket and key; every request comes by here.

        :raises InvalidRequestError: when the bucket lacks its APPID
        """
        bucket, key, version = super().split_path(path)
        require_bucket(bucket)
        return bucket, key, version


class _Keys(AioCredentials):  # type: ignore[misc]
    """Asks for keys that will do whenever a request is signed."""

    def __init__(self, fresh: FreshKeys) -> None:
        self._fresh = fresh
        self.method = "tencent_mps"

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        await self._fresh.renew()
        return ReadOnlyCredentials(*self._fresh.get_credential_info())
