"""Small objects in any object storage: read, replaced and listed whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_mps.conditional_write import ConditionFailedError, conditional_object, is_unsupported
from airflow_provider_mps.destination import filesystem_of
from airflow_provider_mps.store_errors import explaining
from airflow_provider_mps.transfer.pipe import Pipe
from airflow_provider_mps.transfer.uncommitted import open_uncommitted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.conditional_write import ConditionalObject

_LOCAL = {"", "file", "local"}


def is_local(path: ObjectStoragePath) -> bool:
    """Tell whether a path is one of this machine's files."""
    return path.protocol in _LOCAL


def read_object(path: ObjectStoragePath) -> bytes | None:
    """Return what an object holds; ``None`` where there is none."""
    fs = filesystem_of(path)
    with explaining(path, doing="read"):
        try:
            fs.invalidate_cache()
            content: bytes = fs.cat_file(path.path)
        except FileNotFoundError:
            return None
    return content


def replace_object(path: ObjectStoragePath, content: bytes) -> None:
    """Put an object in place of what is there: whoever reads it sees the one or the other."""
    if is_local(path):
        write_object(path, [content])
        return
    with explaining(path):
        filesystem_of(path).pipe_file(path.path, content)


def create_object(path: ObjectStoragePath, content: bytes) -> bool:
    """
    Put an object where there is none.

    :return: ``False`` where there was one; storage that ignores conditions does not notice when two come at once
    """
    with explaining(path):
        if is_local(path):
            Path(path.path).parent.mkdir(parents=True, exist_ok=True)
            try:
                with Path(path.path).open("xb") as file:
                    file.write(content)
            except FileExistsError:
                return False
            return True
        target = conditional_object(path)
        try:
            if target is not None:
                return _create_conditionally(target, content)
        except Exception as error:
            if not is_unsupported(error):
                raise
        fs = filesystem_of(path)
        try:
            fs.pipe_file(path.path, content, mode="create")
        except FileExistsError:
            return False
        except Exception:  # noqa: BLE001 - not every store knows how to create only
            fs.invalidate_cache()
            if fs.exists(path.path):
                return False
            fs.pipe_file(path.path, content)
    return True


def _create_conditionally(target: ConditionalObject, content: bytes) -> bool:
    try:
        target.write(content, None)
    except ConditionFailedError:
        return False
    return True


def write_object(path: ObjectStoragePath, blocks: Iterable[bytes], content_type: str | None = None) -> int:
    """Write an object of any length, which appears when it is whole; return its bytes."""
    size = 0
    with explaining(path):
        pipe = Pipe(open_uncommitted(path, content_type=content_type), lambda: None)
        try:
            for block in blocks:
                pipe.write(block)
                size += len(block)
            pipe.commit()
        except BaseException:
            pipe.discard()
            raise
    return size


def remove_object(path: ObjectStoragePath) -> None:
    """Remove an object, if it is there."""
    with explaining(path, doing="remove"):
        try:
            filesystem_of(path).rm_file(path.path)
        except FileNotFoundError:
            return


def list_objects(folder: ObjectStoragePath) -> list[ObjectStoragePath]:
    """Return what is in a folder, by name."""
    fs = filesystem_of(folder)
    with explaining(folder, doing="list"):
        try:
            fs.invalidate_cache()
            names = {str(entry).rstrip("/").rpartition("/")[2] for entry in fs.ls(folder.path, detail=False)}
        except FileNotFoundError:
            return []
    return [folder / name for name in sorted(names - {folder.name, ""})]
