"""
Conditional writes: create an object only if there is none, or replace it only if it is unchanged.

S3 and Azure compare ETags (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html), Google
compares generations. COS has a condition for creation only (``x-cos-forbid-overwrite``, see ``fs/cos_filesystem.py``),
and ignores it in buckets with versioning. Some servers with these APIs ignore all conditions.
"""

from __future__ import annotations

import errno
import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast
from urllib.parse import quote

from airflow.providers.common.compat.sdk import AirflowException
from fsspec.asyn import sync

from airflow_provider_mps.storage.destination import get_filesystem
from airflow_provider_mps.storage.errors import get_s3_error_code

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

S3_PROTOCOLS = {"s3", "s3a", "s3n", "cos"}
GCS_PROTOCOLS = {"gs", "gcs"}
AZURE_PROTOCOLS = {"abfs", "abfss", "adl", "az", "wasb"}

_CONDITION_FAILED_CODES = {"PreconditionFailed", "412", "FileAlreadyExists"}  # the last one is from COS
_CONDITION_FAILED_STATUSES = {409, 412}
_CONFLICT_CODES = {"ConditionalRequestConflict", "OperationAborted"}
_NOT_FOUND = 404
TOKEN_KEY = "mpsupload"  # noqa: S105 - a name that is valid in the headers of all storages
"""The metadata key of the token by which a writer recognizes an object that it has created."""


class ConditionFailedError(AirflowException):
    """The condition of a write is not met: the object exists, or has changed."""


@dataclass(frozen=True)
class EnforcedConditions:
    """The conditions that a storage is known to enforce."""

    create: bool = False  # only if there is no object
    replace: bool = False  # only if the object has a given version


class ConditionalObject(ABC):
    """An object of an fsspec filesystem whose API has conditional writes."""

    nonexistent_version: ClassVar[str]  # which no object has

    def __init__(self, fs: Any, path: str) -> None:
        self._fs = fs
        self._path = path

    def read(self) -> tuple[bytes, str] | None:
        """Return content and version; ``None`` if there is no object."""
        try:
            return cast("tuple[bytes, str]", sync(self._fs.loop, self._read))
        except Exception as error:
            if is_missing(error):
                return None
            raise

    def write(self, content: bytes, version: str | None) -> str:
        """
        Replace the object if it still has the given version, or create it; return its new version.

        :param version: the version to replace; ``None`` to create the object
        :raises ConditionFailedError: if the object has another version, is missing, or was to be created but exists
        """
        try:
            return cast("str", sync(self._fs.loop, self._write, content, version))
        except Exception as error:
            if is_condition_failed(error) or is_conflict(error) or (version is not None and is_missing(error)):
                raise ConditionFailedError(f"{self._path} was changed by another writer") from error
            raise

    @abstractmethod
    async def _read(self) -> tuple[bytes, str]: ...

    @abstractmethod
    async def _write(self, content: bytes, version: str | None) -> str: ...


class _S3Object(ConditionalObject):
    nonexistent_version = '"00000000000000000000000000000000"'

    async def _call(self, method: str, **arguments: Any) -> Any:
        bucket, key, _ = self._fs.split_path(self._path)
        return await self._fs._call_s3(method, Bucket=bucket, Key=key, **arguments)

    async def _read(self) -> tuple[bytes, str]:
        response = await self._call("get_object")
        async with response["Body"] as body:
            return await body.read(), response.get("ETag", "")

    async def _write(self, content: bytes, version: str | None) -> str:
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        response = await self._call("put_object", Body=content, **condition)
        return str(response.get("ETag", ""))


class _GcsObject(ConditionalObject):
    nonexistent_version = "1"

    async def _read(self) -> tuple[bytes, str]:
        headers, content = await self._fs._call("GET", self._fs.url(self._path))
        return content, headers.get("x-goog-generation", "")

    async def _write(self, content: bytes, version: str | None) -> str:
        bucket, key, _ = self._fs.split_path(self._path)
        response = await self._fs._call(
            "POST",
            f"{self._fs._location}/upload/storage/v1/b/{quote(bucket)}/o",
            uploadType="media",
            name=key,
            ifGenerationMatch="0" if version is None else version,
            headers={"Content-Type": "application/json"},
            data=content,
            json_out=True,
        )
        return str(response.get("generation", ""))


class AzureObject(ConditionalObject):
    """A blob."""

    nonexistent_version = '"0x0"'

    def _client(self) -> Any:
        container, blob, _ = self._fs.split_path(self._path)
        return self._fs.service_client.get_blob_client(container=container, blob=blob)

    async def _read(self) -> tuple[bytes, str]:
        async with self._client() as client:
            blob = await client.download_blob()
            return await blob.readall(), blob.properties.etag

    async def _write(self, content: bytes, version: str | None) -> str:
        from azure.core import MatchConditions

        condition = {} if version is None else {"etag": version, "match_condition": MatchConditions.IfNotModified}
        async with self._client() as client:
            response = await client.upload_blob(content, overwrite=version is not None, **condition)
        return str(response["etag"])

    def create_from(self, file: Any, content_settings: Any) -> None:
        """
        Create the blob from a file; adlfs cannot, since it does not pass on metadata.

        :raises ConditionFailedError: when the blob exists
        """
        sync(self._fs.loop, self._create_from, file, content_settings)
        self._fs.invalidate_cache()

    async def _create_from(self, file: Any, content_settings: Any) -> None:
        token = uuid.uuid4().hex  # identifies the blob if an earlier attempt of the same request has created it
        async with self._client() as client:
            try:
                await client.upload_blob(
                    file,
                    overwrite=False,
                    metadata={"is_directory": "false", TOKEN_KEY: token},
                    content_settings=content_settings,
                    max_concurrency=self._fs.max_concurrency,
                    **getattr(self._fs, "_timeout_kwargs", {}),
                )
            except Exception as error:
                if is_missing(error):
                    raise FileNotFoundError(errno.ENOENT, "No such container", self._path) from error
                if not is_condition_failed(error):
                    raise
                properties = await client.get_blob_properties()
                if properties.metadata.get(TOKEN_KEY) != token:
                    raise ConditionFailedError(f"{self._path} exists") from error


_OBJECT_CLASSES: dict[str, type[ConditionalObject]] = {
    **dict.fromkeys(S3_PROTOCOLS, _S3Object),
    **dict.fromkeys(GCS_PROTOCOLS, _GcsObject),
    **dict.fromkeys(AZURE_PROTOCOLS, AzureObject),
}


def get_conditional_object(path: ObjectStoragePath) -> ConditionalObject | None:
    """Return the object at a path; ``None`` if the API of its storage has no conditional writes."""
    object_class = _OBJECT_CLASSES.get(path.protocol)
    return object_class(get_filesystem(path), path.path) if object_class else None


def detect_enforced_conditions(target: ConditionalObject | None, content: bytes) -> EnforcedConditions:
    """
    Detect which conditions a storage enforces, by writes that it must reject.

    :param target: an existing object
    :param content: written to the object if the storage ignores conditions
    """
    if target is None:
        return EnforcedConditions()
    return EnforcedConditions(_rejects(target, content, None), _rejects(target, content, target.nonexistent_version))


def _rejects(target: ConditionalObject, content: bytes, version: str | None) -> bool:
    try:
        target.write(content, version)
    except ConditionFailedError:
        return True
    except Exception:  # noqa: BLE001 - any other error proves nothing
        return False
    return False


def is_condition_failed(error: BaseException) -> bool:
    """Return whether a storage has rejected a write because its condition is not met."""
    return (
        isinstance(error, FileExistsError)  # gcsfs, and s3fs for some codes
        or get_s3_error_code(error) in _CONDITION_FAILED_CODES
        or getattr(error, "status_code", None) in _CONDITION_FAILED_STATUSES  # Azure
    )


def is_conflict(error: BaseException) -> bool:
    """Return whether S3 has rejected a write because of a concurrent one; the request may be repeated."""
    return get_s3_error_code(error) in _CONFLICT_CODES


def is_unsupported(error: BaseException) -> bool:
    """Return whether a server does not implement the request."""
    return getattr(error, "errno", None) == errno.ENOSYS


def is_missing(error: BaseException) -> bool:
    """Return whether there is no such object."""
    return isinstance(error, FileNotFoundError) or getattr(error, "status_code", None) == _NOT_FOUND  # Azure
