"""How large the parts of an upload are, within the limits of S3. Nothing here does I/O."""

from __future__ import annotations

PART_SIZE = 8 * 1024 * 1024
"""Bytes. S3 wants at least 5 MiB of each part but the last."""
MAX_PARTS = 10_000
"""Parts that an upload to S3 may have."""
MAX_LENGTH = 5 * 1024**4
"""Bytes of the largest object that S3 takes."""
_UNIT = 1024 * 1024
_GROWTH = 1100
"""
Where the length is unknown, a part is at least this fraction of what was sent before: 10,000 of them are 27 TiB, and
at 5 TiB, the largest object, one is still below 5 GiB, the largest part.
"""


def part_size(sent: int, length: int | None) -> int:
    """
    Return how large the next part shall be.

    All are alike where the length is known, for some stores want that; where it is not, later ones grow.

    :param sent: bytes that earlier parts hold
    :param length: bytes of the whole, where it is known
    :return: bytes, a multiple of 1 MiB, which is what Google's uploads want, too
    """
    least = -(-length // MAX_PARTS) if length is not None else sent // _GROWTH
    return max(PART_SIZE, -(-least // _UNIT) * _UNIT)
