"""How ``cos://`` paths are taken apart and joined: as those of S3 are."""

from __future__ import annotations

from typing import Any

from upath._flavour import WrappedFileSystemFlavour
from upath._flavour_sources import flavour_registry
from upath.implementations.cloud import S3Path

_S3Flavour: Any = flavour_registry["s3"]


class _CosFlavour(_S3Flavour):  # type: ignore[misc]
    protocol = ("cos",)


class CosPath(S3Path):
    """What universal-pathlib makes of a ``cos://`` URL; it cannot be told of a scheme's rules in another way."""

    __slots__ = ()
    parser = WrappedFileSystemFlavour(
        _CosFlavour, netloc_is_anchor=True, supports_empty_parts=True, meaningful_trailing_slash=True
    )
