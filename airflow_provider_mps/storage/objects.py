"""Read, write, list and remove whole objects in any storage."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_mps.storage.conditional_write import ConditionFailedError, get_conditional_object, is_unsupported
from airflow_provider_mps.storage.destination import get_filesystem, is_local
from airflow_provider_mps.storage.errors import translate_storage_errors
from airflow_provider_mps.storage.writers import open_writer
from airflow_provider_mps.storage.writers.base import BlockBuffer
from airflow_provider_mps.storage.writers.local import LocalWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.storage.writers.base import AtomicWriter


def read_object(path: ObjectStoragePath) -> bytes | None:
    """Return the content of an object; ``None`` if there is none."""
    fs = get_filesystem(path)
    with translate_storage_errors(path, action="read"):
        try:
            fs.invalidate_cache()
            content: bytes = fs.cat_file(path.path)
        except FileNotFoundError:
            return None
    return content


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
