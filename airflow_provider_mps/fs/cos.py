"""
Tencent's Cloud Object Storage: ``ObjectStoragePath("cos://mps_default@bucket-1250000000/key.wav")``.

Airflow imports this with every ``ObjectStoragePath``, also where the extra ``cos`` is not installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_mps.provider_info import DEFAULT_CONN_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_mps.fs.cos_filesystem import CosFileSystem

schemes = ["cos"]


def get_fs(conn_id: str | None, storage_options: Mapping[str, Any] | None = None) -> CosFileSystem:
    """
    Return the filesystem of a connection.

    :param conn_id: of type ``tencent_mps``; ``mps_default`` where a path names none
    :param storage_options: goes to ``s3fs.S3FileSystem``
    :raises ImportError: when the extra ``cos`` is not installed
    :raises InvalidMpsConnectionError: when the connection is missing or must be mended
    """
    from airflow_provider_mps.fs.cos_filesystem import CosFileSystem

    # Not fsspec's cache of instances: Airflow has one of its own, and a connection may have changed.
    options = {"skip_instance_cache": True, **(storage_options or {})}
    return CosFileSystem(conn_id=conn_id or DEFAULT_CONN_ID, **options)
