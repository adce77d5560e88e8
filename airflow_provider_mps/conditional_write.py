"""
Conditional writes: create an object only where there is none, replace it only where it is unchanged.

S3 compares ETags (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html), as does Azure; Google
compares generations. COS has only a condition for creation (``x-cos-forbid-overwrite``, see ``fs/cos_filesystem.py``),
and ignores it in buckets with versioning. Some servers that speak these APIs ignore all conditions.
"""

from __future__ import annotations

import errno
import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from airflow.providers.common.compat.sdk import AirflowException
from fsspec.asyn import sync

from airflow_provider_mps.destination import filesystem_of
from airflow_provider_mps.store_errors import s3_code

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

_FAILED = {"PreconditionFailed", "412", "FileAlreadyExists"}
"""Codes of S3, and the last one of COS, for a condition that is not met."""
_CONFLICT = {"ConditionalRequestConflict", "OperationAborted"}
"""Codes of S3 for another write at the same moment; the request may be repeated."""
_HTTP_FAILED = {409, 412}
TOKEN_KEY = "mpsupload"  # noqa: S105 - a name, which the headers of every storage allow
"""The name of the metadata in which an object that was created has the token of its writer."""


class ConditionFailedError(AirflowException):
    """The condition of a write is not met: the object exists, or has changed."""


@dataclass(frozen=True)
class Enforced:
    """The conditions that a storage is known to enforce."""

    create: bool = False
    """An object is created only where there is none."""
    replace: bool = False
    """An object is replaced only where it has a given version."""


class ConditionalObject(ABC):
    """
    One object of a storage whose API has conditional writes.

    :param fs: the fsspec filesystem
    :param path: the path in it
    """

    other_version: ClassVar[str]
    """A version that no object has."""

    def __init__(self, fs: Any, path: str) -> None:
        self._fs = fs
        self._path = path

    def read(self) -> tuple[bytes, str] | None:
        """Return content and version; ``None`` if there is no object."""
        try:
            found: tuple[bytes, str] = sync(self._fs.loop, self._read)
        except Exception as error:
            if is_missing(error):
                return None
            raise
        return found

    def write(self, content: bytes, version: str | None) -> str:
        """
        Replace the object if it has a version, or create it if there is none; return its new version.

        :param version: ``None`` to create it
        :raises ConditionFailedError: when it has another version, or exists
        """
        try:
            written: str = sync(self._fs.loop, self._write, content, version)
        except Exception as error:
            if is_condition_failed(error) or is_conflict(error) or (version is not None and is_missing(error)):
                raise ConditionFailedError(f"{self._path} was written by another at the same time") from error
            raise
        return written

    @abstractmethod
    async def _read(self) -> tuple[bytes, str]: ...

    @abstractmethod
    async def _write(self, content: bytes, version: str | None) -> str: ...


class _S3Object(ConditionalObject):
    other_version = '"00000000000000000000000000000000"'

    @property
    def _place(self) -> dict[str, str]:
        bucket, key, _ = self._fs.split_path(self._path)
        return {"Bucket": bucket, "Key": key}

    async def _read(self) -> tuple[bytes, str]:
        answer = await self._fs._call_s3("get_object", **self._place)
        async with answer["Body"] as body:
            return await body.read(), answer.get("ETag", "")

    async def _write(self, content: bytes, version: str | None) -> str:
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        answer = await self._fs._call_s3("put_object", **self._place, Body=content, **condition)
        return str(answer.get("ETag", ""))


class _GcsObject(ConditionalObject):
    other_version = "1"

    async def _read(self) -> tuple[bytes, str]:
        headers, content = await self._fs._call("GET", self._fs.url(self._path))
        return content, headers.get("x-goog-generation", "")

    async def _write(self, content: bytes, version: str | None) -> str:
        bucket, key, _ = self._fs.split_path(self._path)
        answer = await self._fs._call(
            "POST",
            f"{self._fs._location}/upload/storage/v1/b/{quote(bucket)}/o",
            uploadType="media",
            name=key,
            ifGenerationMatch="0" if version is None else version,
            headers={"Content-Type": "application/json"},
            data=content,
            json_out=True,
        )
        return str(answer.get("generation", ""))


class AzureObject(ConditionalObject):
    """A blob."""

    other_version = '"0x0"'

    def _client(self) -> Any:
        container, blob, _ = self._fs.split_path(self._path)
        return self._fs.service_client.get_blob_client(container=container, blob=blob)

    async def _read(self) -> tuple[bytes, str]:
        async with self._client() as client:
            blob = await client.download_blob()
            return await blob.readall(), blob.properties.etag

    async def _write(self, content: bytes, version: str | None) -> str:
        from azure.core import MatchConditions  # noqa: PLC0415 - there where its filesystem is

        same = {} if version is None else {"etag": version, "match_condition": MatchConditions.IfNotModified}
        async with self._client() as client:
            answer = await client.upload_blob(content, overwrite=version is not None, **same)
        return str(answer["etag"])

    def create_from(self, file: Any, token: str, content_settings: Any) -> None:
        """
        Create the blob from a file.

        Not by adlfs, which leaves no room for metadata of the caller's.

        :param token: recognises the blob if an earlier attempt of the same request has created it
        :raises ConditionFailedError: when it exists
        """

        async def upload() -> None:
            metadata = {"is_directory": "false", TOKEN_KEY: token}
            async with self._client() as client:
                try:
                    await client.upload_blob(
                        file,
                        overwrite=False,
                        metadata=metadata,
                        content_settings=content_settings,
                        max_concurrency=self._fs.max_concurrency,
                        **getattr(self._fs, "_timeout_kwargs", {}),
                    )
                except Exception as error:
                    if is_missing(error):
                        raise FileNotFoundError(errno.ENOENT, "No such container", self._path) from error
                    if not is_condition_failed(error):
                        raise
                    there = await client.get_blob_properties()
                    if there.metadata.get(TOKEN_KEY) != token:
                        raise ConditionFailedError(f"{self._path} exists") from error

        sync(self._fs.loop, upload)
        self._fs.invalidate_cache()


_OF_PROTOCOL: dict[str, type[ConditionalObject]] = {
    **dict.fromkeys(("s3", "s3a", "cos"), _S3Object),
    **dict.fromkeys(("gs", "gcs"), _GcsObject),
    **dict.fromkeys(("abfs", "abfss", "adl", "az", "wasb"), AzureObject),
}


def conditional_object(path: ObjectStoragePath) -> ConditionalObject | None:
    """Return the object at a path; ``None`` if the API of its storage has no conditional writes."""
    kind = _OF_PROTOCOL.get(path.protocol)
    return kind(filesystem_of(path), path.path) if kind else None


def enforced_conditions(target: ConditionalObject | None, content: bytes) -> Enforced:
    """
    Find out which conditions a storage enforces, by writes that it must reject.

    :param target: an object that exists
    :param content: what it is overwritten with if conditions are ignored
    """
    if target is None:
        return Enforced()
    return Enforced(create=_rejects(target, content, None), replace=_rejects(target, content, target.other_version))


def _rejects(target: ConditionalObject, content: bytes, version: str | None) -> bool:
    try:
        target.write(content, version)
    except ConditionFailedError:
        return True
    except Exception:  # noqa: BLE001 - whatever it is, it proves nothing
        return False
    return False


def new_token() -> str:
    """Return the token of one writer."""
    return uuid.uuid4().hex


def is_condition_failed(error: BaseException) -> bool:
    """Return whether a storage has rejected a write since its condition is not met."""
    return (
        isinstance(error, FileExistsError)  # gcsfs, and s3fs where S3 names the condition
        or s3_code(error) in _FAILED
        or getattr(error, "status_code", None) in _HTTP_FAILED  # Azure's
    )


def is_conflict(error: BaseException) -> bool:
    """Return whether S3 has rejected a write because of another one at the same moment."""
    return s3_code(error) in _CONFLICT


def is_unsupported(error: BaseException) -> bool:
    """Return whether a server does not implement what it was asked for."""
    return getattr(error, "errno", None) == errno.ENOSYS


def is_missing(error: BaseException) -> bool:
    """Return whether there is no such object."""
    return isinstance(error, FileNotFoundError) or getattr(error, "status_code", None) == 404  # noqa: PLR2004 - Azure's
