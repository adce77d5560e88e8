"""Correct the length in the header of a WAV file that was streamed: its writer did not know it and left 0."""

from __future__ import annotations

import io
import struct
from typing import Any

_MAX_CHUNKS = 64
"""Limit of the search for the samples."""


def correct_length(file: Any, size: int) -> Any:
    """
    Return a WAV file whose header has the length of its samples, since libsndfile trusts a 0.

    libsndfile itself corrects a length beyond the end of the file, such as 0xFFFFFFFF.

    :param file: opened for reading, and seekable
    :param size: bytes of the file
    :return: the same file, or a wrapper with a corrected header
    """
    field = find_unset_length(file, size)
    file.seek(0)
    return _PatchedFile(file, *field) if field else file


def find_unset_length(file: Any, size: int) -> tuple[int, bytes] | None:
    """Return the position of a length of 0 in the header, and its correct bytes; ``None`` if there is none."""
    file.seek(0)
    kind, position, long_length = file.read(4), 12, None
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        head = file.read(24)
        if len(head) < 8:  # noqa: PLR2004 - a chunk's name and length
            return None
        name, length = struct.unpack_from("<4sI", head)
        start = position + 8
        if name == b"data":
            if kind == b"RF64" and long_length:
                return (long_length[0], struct.pack("<Q", size - start)) if long_length[1] == 0 else None
            return (position + 4, struct.pack("<I", min(size - start, 0xFFFFFFFF))) if length == 0 else None
        if name == b"ds64" and len(head) == 24:  # noqa: PLR2004 - the lengths of the file and of its samples
            long_length = (start + 8, struct.unpack_from("<Q", head, 16)[0])
        position = start + length + length % 2
    return None


class _PatchedFile(io.RawIOBase):
    """A file with some bytes replaced."""

    def __init__(self, file: Any, position: int, patch: bytes) -> None:
        self._file = file
        self._position = position
        self._patch = patch

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        first = self.tell()
        data = bytearray(self._file.read(len(buffer)))
        for index in range(max(first, self._position), min(first + len(data), self._position + len(self._patch))):
            data[index - first] = self._patch[index - self._position]
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
