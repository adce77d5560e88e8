"""Files that nobody sees until they are committed, on every filesystem behind ``ObjectStoragePath``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from airflow_provider_mps.destination import filesystem_of
from airflow_provider_mps.errors import DestinationError
from airflow_provider_mps.store_errors import not_stored
from airflow_provider_mps.transfer.uncommitted.held_back import HeldBackFile
from airflow_provider_mps.transfer.uncommitted.local import LocalFile
from airflow_provider_mps.transfer.uncommitted.s3 import S3File
from airflow_provider_mps.transfer.uncommitted.spooled import SUPPORTED, SpooledFile

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.transfer.uncommitted.told import Told


# Only filesystems whose `autocommit=False` is known to keep a file unseen until its commit. Others take the word and
# publish all the same; fsspec's own memory filesystem even empties what is there.
_SPEAK_S3 = {"s3", "s3a", "s3n", "cos"}
_HOLD_BACK = {"gs", "gcs"}
_LOCAL = {"", "file", "local"}
_SHOW_WHOLE_FILES = _SPEAK_S3 | _HOLD_BACK | _LOCAL | SUPPORTED


class UncommittedFile(Protocol):
    """A file that nobody sees until it is committed."""

    def block_size(self, sent: int, /) -> int:
        """Tell how many bytes the block after ``sent`` bytes shall have; only the last one of all may have fewer."""

    def write(self, block: bytearray, /) -> bytearray | None:
        """Append a block, which must not be changed; return one that may be again, if there is one by now."""

    def commit(self) -> Told:
        """
        Show the file at its path, whole, in place of what was there.

        :return: what the store tells of it now
        :raises ConditionFailedError: when the path is taken and the file was only to be created
        :raises OSError: when the store tells beforehand that what it has is not what was written
        """

    def discard(self) -> None:
        """Leave the path as it was. It may be called more than once, and by another thread than writes."""


def validate_protocol(path: ObjectStoragePath, subject: str = "") -> None:
    """
    Refuse a filesystem that would show a file before it is whole.

    :param subject: whose audio is to be stored there, for the error
    :raises DestinationError: when the filesystem is not one that shows files only when they are whole
    """
    if path.protocol not in _SHOW_WHOLE_FILES:
        raise DestinationError(
            f"{not_stored(subject)}{path.protocol}:// is not known to show files only when they are whole, so that "
            "readers could see a part of one. Choose s3, cos, gs, abfs, oss, sftp, hdfs, smb, ftp or file."
        )


def open_uncommitted(
    path: ObjectStoragePath,
    *,
    content_type: str | None = None,
    length: int | None = None,
    create_only: bool = False,
) -> UncommittedFile:
    """
    Open a file for writing that appears at ``path`` only when it is committed.

    :param path: where it will appear
    :param content_type: kept with the file by stores that can, so that a browser plays it
    :param length: bytes that will be written, where it is known
    :param create_only: never replace what is at ``path``, as far as the storage enforces that
    :raises DestinationError: when no filesystem is known for the path, its package is missing, or it is not supported
    """
    fs = filesystem_of(path)
    validate_protocol(path)
    if path.protocol in _LOCAL:
        return LocalFile(Path(path.path), create_only=create_only)
    if path.protocol in _SPEAK_S3:
        return S3File(fs, path.path, content_type=content_type, length=length, create_only=create_only)
    if path.protocol in _HOLD_BACK:
        # gcsfs compares the MD5 that Google answers with.
        kind = {"content_type": content_type} if content_type else {}
        return HeldBackFile(fs, path.path, {"consistency": "md5", **kind}, create_only=create_only)
    return SpooledFile(fs, path.path, path.protocol, content_type=content_type, create_only=create_only)
