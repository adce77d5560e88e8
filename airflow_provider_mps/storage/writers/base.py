"""What all writers share: their protocol, the receipt of a commit, and blocks of the right size."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024
BLOCK_SIZE_BYTES = MIB
PART_SIZE_BYTES = 8 * MIB
"""The smallest part of an upload. S3 requires at least 5 MiB of each part but the last."""
MAX_PARTS = 10_000
"""Parts that an S3 upload may have."""
MAX_LENGTH_BYTES = 5 * 1024**4
"""Largest audio accepted: the size limit of Google Cloud Storage, and of S3 until December 2025."""
_GROWTH_DIVISOR = 1100
"""With growth by this fraction, 10,000 parts hold 29 TiB, and a part at 5 TiB is below S3's limit of 5 GiB."""


def get_part_size(written: int, length: int | None) -> int:
    """
    Return the size of the next part, which grows unless the length is known.

    If the length is known, all parts have the same size, as some servers require.

    :param written: bytes in the parts before
    :param length: bytes of the whole object, if known
    :return: bytes, a multiple of 1 MiB as Google Cloud Storage requires
    """
    minimum = -(-length // MAX_PARTS) if length is not None else written // _GROWTH_DIVISOR
    return max(PART_SIZE_BYTES, -(-minimum // MIB) * MIB)


@dataclass(frozen=True)
class WriteReceipt:
    """What the storage has confirmed about a committed file; ``None`` means that it reports nothing."""

    size: int | None = None
    """Bytes."""
    crc64: int | None = None
    md5: bool = False
    """Whether the storage or its client has compared the MD5."""
    mismatch: str | None = None
    """A difference that the storage's client has found."""

    def find_defect(self, size: int, crc64: int) -> str | None:
        """Return the difference from what was written, as a clause for a message; ``None`` if there is none."""
        if self.mismatch is not None:
            return self.mismatch
        if self.size is not None and self.size != size:
            return f"it has {self.size} bytes, not {size}"
        if self.crc64 is not None and self.crc64 != crc64:
            return f"its CRC-64 is {self.crc64}, not {crc64}"
        return None

    @property
    def confirmed(self) -> str:
        """What the storage has confirmed, for the log."""
        confirmed = ["size"] * (self.size is not None) + ["CRC-64"] * (self.crc64 is not None) + ["MD5"] * self.md5
        return " and ".join(confirmed) or "nothing"


class AtomicWriter(Protocol):
    """Writes a file that becomes visible only when it is committed."""

    @property
    def can_hang(self) -> bool:
        """Whether a call may hang, or a signal handler must not interrupt it, so that it needs a thread of its own."""
        return True

    def get_block_size(self, written: int, /) -> int:
        """Return the size in bytes of the block after ``written`` bytes; only the last block may be smaller."""
        return BLOCK_SIZE_BYTES

    def write(self, block: bytearray, /) -> bytearray | None:
        """Append a block, which the caller must not change; return a block to reuse, this or an earlier one."""

    def commit(self) -> WriteReceipt:
        """
        Make the complete file visible at its path, in place of an older one.

        :raises ConditionFailedError: when the file was only to be created and the path exists
        :raises OSError: when the storage has not received what was written
        """

    def discard(self) -> None:
        """Leave the path as it was; may be called repeatedly, and by another thread than the one that writes."""


class BlockBuffer:
    """
    Collects bytes in blocks of the size that a writer requires.

    Blocks are reused: a new one takes a third more time, because the kernel clears its memory first.

    :param length: bytes of the whole file, if known; a shorter file gets a shorter block
    """

    def __init__(self, writer: AtomicWriter, length: int | None = None) -> None:
        self._writer = writer
        self._length = length
        self._spare_blocks: deque[bytearray] = deque()
        self._written = 0
        self._block = bytearray()
        self._filled = 0

    def _start_block(self) -> None:
        size = self._writer.get_block_size(self._written)
        if self._length is not None and self._written < self._length:
            size = min(size, self._length - self._written)
        spare = self._spare_blocks.popleft() if self._spare_blocks else bytearray()
        self._block = spare if len(spare) == size else bytearray(size)

    def fill(self, data: bytes) -> Iterator[bytearray]:
        """Append bytes; yield each block that is full."""
        rest = memoryview(data)
        while rest:
            if not self._filled:
                self._start_block()
            count = min(len(rest), len(self._block) - self._filled)
            self._block[self._filled : self._filled + count] = rest[:count]
            self._filled += count
            rest = rest[count:]
            if self._filled == len(self._block):
                yield self._block
                self._written += self._filled
                self._filled = 0

    def get_rest(self) -> bytearray:
        """Return the bytes after the last full block."""
        return self._block[: self._filled]

    def reuse(self, block: bytearray | None) -> None:
        """Take back a block that the writer does not need any more."""
        if block:
            self._spare_blocks.append(block)
