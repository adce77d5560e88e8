"""Read, write, list and remove whole objects in any storage."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

from fsspec.asyn import sync

from airflow_provider_mps.redaction import describe_error
from airflow_provider_mps.storage.conditional_write import (
    S3_PROTOCOLS,
    ConditionFailedError,
    get_conditional_object,
    is_missing,
    is_unsupported,
)
from airflow_provider_mps.storage.destination import get_filesystem, is_local
from airflow_provider_mps.storage.errors import is_rejected_by_s3, translate_storage_errors
from airflow_provider_mps.storage.writers import open_writer
from airflow_provider_mps.storage.writers.base import BlockBuffer
from airflow_provider_mps.storage.writers.local import LocalWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.storage.writers.base import AtomicWriter

MAX_REMOVED_OBJECTS = 1000
"""Objects that S3 removes by one request. https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html"""
CONCURRENT_REMOVALS = 8
"""Requests at once to a storage that removes objects one by one."""
_without_bulk_removal: WeakSet[Any] = WeakSet()
"""Filesystems whose server has rejected the removal of several objects by one request."""


def read_object(path: ObjectStoragePath) -> bytes | None:
    """Return the content of an object; ``None`` if there is none."""
    fs = get_filesystem(path)
    with translate_storage_errors(path, action="read"):
        try:
            fs.invalidate_cache()
            if path.protocol in S3_PROTOCOLS:
                return cast("bytes", sync(fs.loop, _read_s3_object, fs, path.path))
            content: bytes = fs.cat_file(path.path)
        except FileNotFoundError:
            return None
    return content


async def _read_s3_object(fs: Any, path: str) -> bytes:
    """Read an object by one request; s3fs would request its size first."""
    from s3fs.core import _error_wrapper  # retries a body that was cut off, as `cat_file` does

    bucket, key, _ = fs.split_path(path)

    async def read() -> bytes:
        response = await fs._call_s3("get_object", Bucket=bucket, Key=key)
        async with response["Body"] as body:
            return cast("bytes", await body.read())

    return cast("bytes", await _error_wrapper(read, retries=fs.retries))


def replace_object(path: ObjectStoragePath, content: bytes) -> None:
    """
    Write a small object.

    On a local disk and in object storage, readers see either the old or the new content. Other filesystems, e.g. SFTP,
    may show an incomplete file.
    """
    with translate_storage_errors(path):
        if is_local(path):
            with _commit_or_discard(LocalWriter(Path(path.path))) as writer:
                writer.write(bytearray(content))
        else:
            get_filesystem(path).pipe_file(path.path, content)


def create_object(path: ObjectStoragePath, content: bytes) -> bool:
    """
    Write a small object if there is none.

    :return: whether it was created; of two concurrent writers, both may succeed if the storage ignores conditions
    """
    with translate_storage_errors(path):
        try:
            if is_local(path):
                file = LocalWriter(Path(path.path), create_only=True, reserve_name=True)
                with _commit_or_discard(file) as writer:
                    writer.write(bytearray(content))
                return True
            if (target := get_conditional_object(path)) is not None:
                target.write(content, None)
                return True
        except ConditionFailedError:
            return False
        except Exception as error:
            if not is_unsupported(error):
                raise
        return _create_unconditionally(path, content)


def _create_unconditionally(path: ObjectStoragePath, content: bytes) -> bool:
    fs = get_filesystem(path)
    try:
        fs.pipe_file(path.path, content, mode="create")
    except FileExistsError:
        return False
    except Exception:  # noqa: BLE001 - not every filesystem supports this mode
        fs.invalidate_cache()
        if fs.exists(path.path):
            return False
        fs.pipe_file(path.path, content)
    return True


def write_object(path: ObjectStoragePath, blocks: Iterable[bytes], content_type: str | None = None) -> int:
    """Write an object of any size, which becomes visible when it is complete; return the bytes written."""
    size = 0
    with translate_storage_errors(path), _commit_or_discard(open_writer(path, content_type=content_type)) as writer:
        buffer = BlockBuffer(writer)
        for block in blocks:
            size += len(block)
            for full_block in buffer.fill(block):
                buffer.reuse(writer.write(full_block))
        if rest := buffer.get_rest():
            writer.write(rest)
    return size


@contextmanager
def _commit_or_discard(writer: AtomicWriter) -> Iterator[AtomicWriter]:
    try:
        yield writer
        writer.commit()
    except BaseException:
        writer.discard()
        raise


def remove_object(path: ObjectStoragePath) -> None:
    """Remove an object if it exists."""
    with translate_storage_errors(path, action="remove"):
        try:
            get_filesystem(path).rm_file(path.path)
        except FileNotFoundError:
            return


def remove_objects(paths: Sequence[ObjectStoragePath]) -> dict[str, str]:
    """
    Remove objects of one folder, in any order; S3 and COS need one request.

    :param paths: at most :data:`MAX_REMOVED_OBJECTS`; missing ones are ignored
    :return: by name, why objects could not be removed; empty if all are gone
    :raises AirflowException: when the storage failed; some of them may be gone
    """
    fs = get_filesystem(paths[0])
    if not getattr(fs, "async_impl", False):
        for path in paths:
            remove_object(path)
        return {}
    remove = _remove_s3_objects if paths[0].protocol in S3_PROTOCOLS else _remove_one_by_one
    with translate_storage_errors(paths[0].parent, action="remove"):
        return cast("dict[str, str]", sync(fs.loop, remove, fs, [path.path for path in paths]))


async def _remove_s3_objects(fs: Any, paths: list[str]) -> dict[str, str]:
    if fs in _without_bulk_removal:
        return await _remove_one_by_one(fs, paths)
    # Not `fs.rm()`: it takes e.g. "[" in a name for a pattern, and ignores errors.
    bucket = fs.split_path(paths[0])[0]
    keys = [{"Key": fs.split_path(path)[1]} for path in paths]
    try:
        response = await fs._call_s3("delete_objects", Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
    except Exception as error:
        if not is_rejected_by_s3(error):
            raise
        # E.g. some servers require Content-MD5, which botocore does not send.
        _without_bulk_removal.add(fs)
        return await _remove_one_by_one(fs, paths)
    errors = response.get("Errors", ())
    return {str(error.get("Key")).rpartition("/")[2]: str(error.get("Code")) for error in errors}


async def _remove_one_by_one(fs: Any, paths: list[str]) -> dict[str, str]:
    failed: dict[str, Exception] = {}
    for start in range(0, len(paths), CONCURRENT_REMOVALS):
        group = paths[start : start + CONCURRENT_REMOVALS]
        outcomes = await asyncio.gather(*map(fs._rm_file, group), return_exceptions=True)
        errors = {
            path: error
            for path, error in zip(group, outcomes, strict=True)
            if isinstance(error, Exception) and not is_missing(error)
        }
        failed |= errors
        if len(errors) == len(group):  # the storage is down, or there is no permission
            failed |= dict.fromkeys(paths[start:], next(iter(errors.values())))
            break
    if len(failed) == len(paths):
        raise next(iter(failed.values()))
    return {path.rpartition("/")[2]: describe_error(error) for path, error in failed.items()}


def list_objects(folder: ObjectStoragePath) -> list[ObjectStoragePath]:
    """Return the paths in a folder, sorted by name."""
    fs = get_filesystem(folder)
    with translate_storage_errors(folder, action="list"):
        try:
            fs.invalidate_cache()
            names = {str(entry).rstrip("/").rpartition("/")[2] for entry in fs.ls(folder.path, detail=False)}
        except FileNotFoundError:
            return []
    return [folder / name for name in sorted(names - {folder.name, ""})]
