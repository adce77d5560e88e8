"""Assets in Tencent's COS: ``Asset("cos://bucket-1250000000/key.wav")``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from airflow.providers.common.compat.sdk import Asset

from airflow_provider_mps.assets import encode_path, encode_uri
from airflow_provider_mps.fs.cos_place import require_bucket

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from airflow.providers.common.compat.openlineage.facet import Dataset


def create_asset(*, bucket: str, key: str, extra: dict[str, Any] | None = None) -> Asset:
    """
    Make the asset of an object.

    :param bucket: with its APPID
    :param key: of the object
    :param extra: kept with the asset
    """
    return Asset(uri=encode_uri(f"cos://{bucket}/{key.lstrip('/')}"), extra=extra)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """
    Check a URI for Airflow, and drop the connection id that the text of an ``ObjectStoragePath`` has: whoever reads
    an object, and with whichever keys, it is the same asset. What is not percent-encoded yet is.

    :raises ValueError: when it names no bucket with its APPID
    """
    bucket = uri.netloc.rpartition("@")[2]
    if not bucket:
        raise ValueError("A URI of COS must name a bucket, as in cos://clips-1250000000/key.wav")
    require_bucket(bucket)
    return uri._replace(netloc=bucket, path=encode_path(uri.path, may_be_encoded=True))


def convert_asset_to_openlineage(asset: Asset, lineage_context: object) -> Dataset:
    """Name an asset as OpenLineage names objects."""
    from airflow.providers.common.compat.openlineage.facet import Dataset

    bucket, _, key = asset.uri.removeprefix("cos://").partition("/")
    return Dataset(namespace=f"cos://{bucket}", name=unquote(key) or "/")
