"""Faults of audio downloads, and their sequence. Nothing here does I/O."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class FaultKind(StrEnum):
    """Kinds of download faults. *Half* means half of the response: of the whole audio, or of the requested range."""

    TRUNCATE = "truncate"
    """Announce all, send half, and close the connection."""
    STALL = "stall"
    """Send half and then nothing; keep the connection open."""
    RESET = "reset"
    """Send half and reset the connection."""
    WRONG_CRC = "wrong-crc"
    """Send a wrong CRC-64."""
    NO_CRC = "no-crc"
    """Send no CRC-64."""
    NO_LENGTH = "no-length"
    """Send chunks without a Content-Length."""
    IGNORE_RANGE = "ignore-range"
    """Send the whole audio although a range was requested."""
    REPLACE = "replace"
    """As ``TRUNCATE``; from then on the URL serves another audio."""
    FORBIDDEN = "forbidden"
    """Respond 403, as if the URL had expired."""
    NOT_FOUND = "not-found"
    """Respond 404."""
    UNAVAILABLE = "unavailable"
    """Respond 503."""
    REDIRECT = "redirect"
    """Redirect to another URL of the audio."""
    REDIRECT_TO_FILE = "redirect-to-file"
    """Redirect to a ``file://`` URL."""
    TOO_LONG = "too-long"
    """Send more than announced, and close the connection."""
    SLOW = "slow"
    """Send all of it, in small pieces, at 64 kB/s."""


@dataclass(frozen=True)
class AudioFault:
    """A fault, and how many downloads of an audio get it."""

    kind: FaultKind
    times: int | None = 1
    """``None``: always."""

    @classmethod
    def parse(cls, text: str) -> AudioFault:
        """
        Parse ``KIND`` or ``KIND:TIMES``, where ``TIMES`` is a number or ``always``.

        :raises ValueError: if it is neither; the message names the kinds
        """
        match = re.fullmatch(r"(?P<kind>[^:]+)(:(?P<times>[1-9][0-9]{0,8}|always))?", text)
        if match is None or match["kind"] not in set(FaultKind):
            raise ValueError(
                f"{text!r} is not an audio fault. Use KIND or KIND:TIMES, where TIMES is a number from 1 or 'always', "
                f"and KIND one of: {', '.join(FaultKind)}"
            )
        times = match["times"] or "1"
        return cls(FaultKind(match["kind"]), None if times == "always" else int(times))


class FaultSequence:
    """
    The faults that the downloads of each audio get, one after the other.

    :param faults: in this order
    """

    def __init__(self, faults: Iterable[AudioFault]) -> None:
        self._faults = tuple(faults)
        self._counts: Counter[str] = Counter()

    def next_for(self, name: str) -> FaultKind | None:
        """Return the next fault of an audio; ``None`` if none is left."""
        before = self._counts[name]
        for fault in self._faults:
            if fault.times is None or before < fault.times:
                return fault.kind
            before -= fault.times
        return None

    def count(self, name: str) -> None:
        """Record that a download of an audio got its fault."""
        self._counts[name] += 1
