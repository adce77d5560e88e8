"""Which bytes a request asks for. https://www.rfc-editor.org/rfc/rfc9110#name-range"""

from __future__ import annotations

import re


class UnsatisfiableRangeError(ValueError):
    """A range begins behind the end."""


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """
    Return the first byte of a ``Range`` header and the one behind its last; ``None`` where the whole is to be sent.

    :param header: its value; what asks for several ranges, or is not understood, may be answered with the whole
    :param size: bytes that there are
    :raises UnsatisfiableRangeError: when there is none of the bytes
    """
    match = re.fullmatch(r"\s*bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", header or "", re.IGNORECASE)
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        start, stop = max(0, size - int(match[2])), size
    else:
        start, stop = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    if start >= size or start == stop:
        raise UnsatisfiableRangeError
    return start, stop
