"""Assets in Tencent Cloud Object Storage: ``Asset("cos://bucket-1250000000/key.wav")``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from airflow.providers.common.compat.sdk import Asset

from airflow_provider_mps.assets import encode_path, encode_uri
from airflow_provider_mps.fs.cos_endpoint import validate_bucket

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from airflow.providers.common.compat.openlineage.facet import Dataset


def create_asset(*, bucket: str, key: str, extra: dict[str, Any] | None = None) -> Asset:
    """
    Return the asset of an object.

    :param bucket: the bucket's name, with its APPID
    :param key: the object's key, not encoded
    """
    return Asset(uri=encode_uri(f"cos://{bucket}/{key.lstrip('/')}"), extra=extra)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """
    Validate and normalize a URI for Airflow.

    The connection id of an ``ObjectStoragePath`` is dropped: an object is the same asset with every connection.

    :raises ValueError: if the URI has no bucket with an APPID
    """
    bucket = uri.netloc.rpartition("@")[2]
    if not bucket:
        raise ValueError("A URI of COS must name a bucket, as in cos://clips-1250000000/key.wav")
    validate_bucket(bucket)
    return uri._replace(netloc=bucket, path=encode_path(uri.path, may_be_encoded=True))


def convert_asset_to_openlineage(asset: Asset, lineage_context: object) -> Dataset:
    """Return the OpenLineage dataset of an asset."""
    from airflow.providers.common.compat.openlineage.facet import Dataset

    bucket, _, key = asset.uri.removeprefix("cos://").partition("/")
    return Dataset(namespace=f"cos://{bucket}", name=unquote(key) or "/")
