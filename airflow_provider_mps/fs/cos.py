"""
Tencent Cloud Object Storage: ``ObjectStoragePath("cos://mps_default@bucket-1250000000/key.wav")``.

Airflow imports this module for every ``ObjectStoragePath``, even if the extra ``cos`` is not installed.
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
    Return the filesystem of a connection, which gets the connection at its first request.

    :param conn_id: a connection of type ``tencent_mps``; default ``mps_default``
    :raises ImportError: if the extra ``cos`` is not installed
    """
    _warn_of_another_package()
    # No instance cache of fsspec: Airflow has its own, and the connection may have changed.
    options = {"skip_instance_cache": True, **(storage_options or {})}
    return _get_filesystem_class()(conn_id=conn_id or DEFAULT_CONN_ID, **options)


def __getattr__(name: str) -> type[AbstractFileSystem]:
    """Return ``CosFileSystem`` for the entry point of fsspec."""
    if name != "CosFileSystem":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _get_filesystem_class()


@cache
def _warn_of_another_package() -> None:
    """Warn once per process if fsspec opens ``cos://`` with another package: of several, it registers only one."""
    loaded = registry.get("cos")
    name = (
        f"{loaded.__module__}.{loaded.__qualname__}"
        if loaded
        else known_implementations.get("cos", {}).get("class", "")
    )
    if name and not name.startswith(f"{__package__}."):
        log.warning(
            "fsspec opens cos:// URLs with %s, which does not use Airflow's connections. ObjectStoragePath is not "
            "affected, but fsspec.open() and pandas are. Uninstall that package, or call "
            'fsspec.register_implementation("cos", "%s.CosFileSystem", clobber=True) first.',
            name,
            __name__,
        )


def _get_filesystem_class() -> type[AbstractFileSystem]:
    try:
        from airflow_provider_mps.fs.cos_filesystem import CosFileSystem
    except ImportError as error:
        _MissingFileSystem.missing = str(error)
        return _MissingFileSystem
    return CosFileSystem


class _MissingFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Raises an error that names the package to install; fsspec would replace the message of an import error."""

    protocol = ("cos",)
    missing = ""

    def __init__(self, **_: Any) -> None:
        raise ImportError(
            f"cos:// needs packages that are not installed ({self.missing}): pip install 'airflow-provider-mps[cos]'"
        )
