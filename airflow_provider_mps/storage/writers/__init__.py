"""Atomic writers for the filesystems behind ``ObjectStoragePath``: a file is visible only when it is complete."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_mps.exceptions import DestinationError
from airflow_provider_mps.storage.conditional_write import GCS_PROTOCOLS, S3_PROTOCOLS
from airflow_provider_mps.storage.destination import get_filesystem, is_local
from airflow_provider_mps.storage.errors import format_not_stored
from airflow_provider_mps.storage.writers.gcs import GcsWriter
from airflow_provider_mps.storage.writers.local import LocalWriter
from airflow_provider_mps.storage.writers.s3 import S3Writer
from airflow_provider_mps.storage.writers.spooled import SPOOLED_PROTOCOLS, SpooledWriter

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.storage.writers.base import AtomicWriter

# An allowlist: fsspec's `autocommit=False` is no guarantee. Many filesystems accept it and publish all the same, and
# fsspec's memory filesystem even empties an existing file.
_ATOMIC_PROTOCOLS = S3_PROTOCOLS | GCS_PROTOCOLS | SPOOLED_PROTOCOLS


def validate_protocol(path: ObjectStoragePath, subject: str = "") -> None:
    """
    Reject a filesystem that would show incomplete files.

    :raises DestinationError: when the filesystem is not known to show only complete files
    """
    if path.protocol not in _ATOMIC_PROTOCOLS and not is_local(path):
        raise DestinationError(
            f"{format_not_stored(subject)}{path.protocol}:// is not known to show files only when they are complete. "
            "Use s3, cos, gs, abfs, oss, sftp, hdfs, smb, ftp or file."
        )


def open_writer(
    path: ObjectStoragePath,
    *,
    content_type: str | None = None,
    length: int | None = None,
    create_only: bool = False,
) -> AtomicWriter:
    """
    Return a writer of a file that appears at ``path`` when it is committed.

    :param content_type: stored with the file if the storage can, so that a browser plays it
    :param length: bytes that will be written, if known
    :param create_only: never replace an existing file, as far as the storage enforces that
    :raises DestinationError: when no filesystem is known for the path, its package is missing, or it is not supported
    """
    fs = get_filesystem(path)
    validate_protocol(path)
    if is_local(path):
        return LocalWriter(Path(path.path), create_only=create_only)
    if path.protocol in S3_PROTOCOLS:
        return S3Writer(fs, path.path, content_type=content_type, length=length, create_only=create_only)
    if path.protocol in GCS_PROTOCOLS:
        return GcsWriter(fs, path.path, content_type=content_type, create_only=create_only)
    return SpooledWriter(fs, path.path, path.protocol, content_type=content_type, create_only=create_only)
