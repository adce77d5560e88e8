"""
Tencent's Cloud Object Storage: ``ObjectStoragePath("cos://mps_default@bucket-1250000000/key.wav")``.

Airflow imports this with every ``ObjectStoragePath``, also where the extra ``cos`` is not installed.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

from fsspec import AbstractFileSystem
from fsspec.registry import known_implementations, registry

from airflow_provider_mps.connection_form import DEFAULT_CONN_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)
schemes = ["cos"]


def get_fs(conn_id: str | None, storage_options: Mapping[str, Any] | None = None) -> AbstractFileSystem:
    """
    Return the filesystem of a connection, which is looked up at the first request.

    :param conn_id: of type ``tencent_mps``; ``mps_default`` where a path names none
    :param storage_options: goes to ``s3fs.S3FileSystem``
    :raises ImportError: when the extra ``cos`` is not installed
    """
    _warn_of_another_package()
    # Not fsspec's cache of instances: Airflow has one of its own, and a connection may have changed.
    options = {"skip_instance_cache": True, **(storage_options or {})}
    return _filesystem_class()(conn_id=conn_id or DEFAULT_CONN_ID, **options)


def __getattr__(name: str) -> type[AbstractFileSystem]:
    """Return ``CosFileSystem`` to fsspec, whose entry point leads here."""
    if name != "CosFileSystem":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _filesystem_class()


@cache
def _warn_of_another_package() -> None:
    """Warn, once in a process, if fsspec alone would use another package: of several, it keeps any one."""
    made = registry.get("cos")
    name = f"{made.__module__}.{made.__qualname__}" if made else known_implementations.get("cos", {}).get("class", "")
    if name and not name.startswith(f"{__package__}."):
        log.warning(
            "fsspec opens cos:// URLs with %s, which does not use Airflow's connections. ObjectStoragePath is not "
            "affected, but fsspec.open() and pandas are. Uninstall that package, or call "
            'fsspec.register_implementation("cos", "%s.CosFileSystem", clobber=True) first.',
            name,
            __name__,
        )


def _filesystem_class() -> type[AbstractFileSystem]:
    try:
        from airflow_provider_mps.fs.cos_filesystem import CosFileSystem
    except ImportError as error:
        _MissingFileSystem.missing = str(error)
        return _MissingFileSystem
    return CosFileSystem


class _MissingFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Says what to install; fsspec would put words of its own in the place of an error from importing."""

    protocol = ("cos",)
    missing = ""

    def __init__(self, **_: Any) -> None:
        raise ImportError(
            f"cos:// needs packages that are not installed ({self.missing}): pip install 'airflow-provider-mps[cos]'"
        )
