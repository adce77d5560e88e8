"""An audio in object storage, opened for reading, and nothing that is no audio."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow.sdk.io import has_fs

from airflow_provider_mps.destination import filesystem_of, lacks_permission
from airflow_provider_mps.redaction import keep_links_out_of_logs

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 1024 * 1024
"""Bytes that are read at once."""
_SIGNATURES = (
    (0, b"RIFF", 8, b"WAVE", "audio/wav"),
    (0, b"ID3", 0, b"", "audio/mpeg"),
    (0, b"\xff\xfb", 0, b"", "audio/mpeg"),
    (0, b"\xff\xf3", 0, b"", "audio/mpeg"),
    (0, b"\xff\xf2", 0, b"", "audio/mpeg"),
    (0, b"\xff\xf1", 0, b"", "audio/aac"),
    (0, b"\xff\xf9", 0, b"", "audio/aac"),
    (0, b"fLaC", 0, b"", "audio/flac"),
    (0, b"OggS", 0, b"", "audio/ogg"),
    (4, b"ftyp", 0, b"", "audio/mp4"),
)


class NoAudioError(Exception):
    """There is no audio to be heard; the message tells why, to whoever looks at the view."""


@dataclass(frozen=True)
class AudioObject:
    """An audio as it is now."""

    path: str
    size: int
    """Bytes."""
    content_type: str
    etag: str
    """Another one when the object has changed."""
    _fs: Any = field(repr=False, compare=False)
    _key: str = field(repr=False, compare=False)

    @classmethod
    def find(cls, path: str) -> AudioObject:
        """
        Look up what is at a path.

        :param path: the text of an ``ObjectStoragePath``
        :raises NoAudioError: when it is not there, cannot be read, or is no audio
        """
        # Anybody who may write XComs can write a path: what is read is where audio can be stored, and is audio.
        scheme = path.partition("://")[0] if "://" in path else ""
        if not has_fs(scheme):
            raise NoAudioError(f"{path} is no place in object storage that this Airflow knows.")
        keep_links_out_of_logs()
        try:
            location = ObjectStoragePath(path)
            fs, key = filesystem_of(location), location.path
            fs.invalidate_cache()
            info = fs.info(key)
            content_type = _content_type(fs.cat_file(key, start=0, end=16)) if info["type"] == "file" else None
        except FileNotFoundError as error:
            raise NoAudioError(
                f"{path} is not there any more, or not on the machine of Airflow's API server."
            ) from error
        except Exception as error:
            if lacks_permission(error):
                raise NoAudioError(f"Airflow's API server has no permission to read {path} ({error}).") from error
            raise NoAudioError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
        if content_type is None:
            raise NoAudioError(f"What is at {path} is no audio.")
        if not isinstance(info.get("size"), int):
            raise NoAudioError(f"The store of {path} does not tell its size, without which it cannot be played.")
        etag = hashlib.sha256(repr(sorted(info.items(), key=str)).encode()).hexdigest()[:32]
        return cls(path, info["size"], content_type, f'"{etag}"', fs, key)

    @property
    def name(self) -> str:
        """The name of its file."""
        return self._key.rpartition("/")[2]

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """
        Read some of its bytes.

        :param start: the first
        :param stop: the one behind the last
        :raises EOFError: when there are fewer than there were
        """
        for first in range(start, stop, BLOCK):
            last = min(first + BLOCK, stop)
            block = self._fs.cat_file(self._key, start=first, end=last)
            if len(block) != last - first:
                raise EOFError(f"{self.path} has changed while it was read")
            yield block

    def open(self) -> Any:
        """Open it as a file that can seek, and reads little at a time."""
        return self._fs.open(self._key, "rb", block_size=64 * 1024, cache_type="bytes")


def _content_type(head: bytes) -> str | None:
    """Tell by its first bytes what kind of audio it is: a name can be anybody's."""
    for offset, mark, second_offset, second, content_type in _SIGNATURES:
        if head.startswith(mark, offset) and head.startswith(second, second_offset):
            return content_type
    return None
