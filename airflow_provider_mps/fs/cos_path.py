"""Parse and join ``cos://`` paths as ``s3://`` paths; universal-pathlib finds ``CosPath`` by its entry point."""

from __future__ import annotations

from typing import Any

from upath._flavour import WrappedFileSystemFlavour
from upath._flavour_sources import flavour_registry
from upath.implementations.cloud import S3Path

_S3Flavour: Any = flavour_registry["s3"]


class _CosFlavour(_S3Flavour):  # type: ignore[misc]
    protocol = ("cos",)  # universal-pathlib registers the class for this scheme


# No public API of universal-pathlib 0.2 (Airflow 2.11 to 3.1) or 0.3 sets a scheme's parsing rules; both read this
# table: https://github.com/fsspec/universal_pathlib/blob/v0.3.10/upath/_flavour.py
for _rule in ("netloc_is_anchor", "supports_empty_parts"):
    WrappedFileSystemFlavour.protocol_config[_rule].add("cos")
WrappedFileSystemFlavour.from_protocol.cache_clear()


class CosPath(S3Path):
    """The path class of ``cos://`` URLs."""

    __slots__ = ()
