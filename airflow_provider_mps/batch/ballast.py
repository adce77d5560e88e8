"""Room that is kept on a disk, so that a full one can still take what was paid and what was stored."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_mps.batch.objects import is_local

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

LEAST = 256 * 1024
"""Bytes."""


class Ballast:
    """
    A file without a meaning, thrown off when the disk is full. Object stores have none: they do not fill up.

    :param path: where it lies
    """

    def __init__(self, path: ObjectStoragePath) -> None:
        self._file = Path(path.path) if is_local(path) else None
        self._size = 0

    def take_on(self, size: int) -> None:
        """
        Keep room, as far as there is any.

        :param size: bytes that the result manifest will need
        """
        wanted = max(LEAST, 2 * size)
        if self._file is None or self._size >= wanted:
            return
        with suppress(OSError, AttributeError):  # not every system knows how to
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, wanted)
            self._size = wanted

    def throw_off(self) -> bool:
        """Make room; return whether there was something to throw off."""
        had, self._size = self._size > 0, 0
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)
        return had
