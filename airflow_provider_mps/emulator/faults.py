"""The faults that downloads of the audio can meet, and whose turn it is. Nothing here does I/O."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class FaultKind(StrEnum):
    """What can go wrong with a download. *Half* is half of what the answer holds, be it the whole or a range."""

    TRUNCATE = "truncate"
    """It announces all, sends half, and closes the connection."""
    STALL = "stall"
    """It sends half, and then nothing more; the connection stays open."""
    RESET = "reset"
    """It sends half and resets the connection."""
    WRONG_CRC = "wrong-crc"
    """It tells another CRC-64 than the audio's."""
    NO_CRC = "no-crc"
    """It tells no CRC-64."""
    NO_LENGTH = "no-length"
    """It tells no Content-Length, and sends chunks."""
    IGNORE_RANGE = "ignore-range"
    """It sends the whole where a range was asked for."""
    REPLACE = "replace"
    """As ``TRUNCATE``, and from then on the link leads to another audio."""
    FORBIDDEN = "forbidden"
    """It answers 403, as if the link had expired."""
    NOT_FOUND = "not-found"
    """It answers 404."""
    UNAVAILABLE = "unavailable"
    """It answers 503."""
    REDIRECT = "redirect"
    """It redirects to another address, where the audio is."""
    REDIRECT_TO_FILE = "redirect-to-file"
    """It redirects to a file of the machine that follows."""
    TOO_LONG = "too-long"
    """It sends more than it announces, and closes the connection."""
    SLOW = "slow"
    """It sends all of it, in small pieces, at 64 kB/s."""


@dataclass(frozen=True)
class AudioFault:
    """A fault, and how many downloads of an audio meet it."""

    kind: FaultKind
    times: int | None = 1
    """``None`` for always."""

    @classmethod
    def parse(cls, text: str) -> AudioFault:
        """
        Read ``KIND`` or ``KIND:TIMES``, where ``TIMES`` is a number or ``always``.

        :raises ValueError: when it is neither, with a sentence that names the kinds
        """
        match = re.fullmatch(r"(?P<kind>[^:]+)(:(?P<times>[1-9][0-9]{0,8}|always))?", text)
        if match is None or match["kind"] not in set(FaultKind):
            raise ValueError(
                f"{text!r} is no fault of the audio. It is KIND or KIND:TIMES, with TIMES a number from 1 or 'always', "
                f"and KIND one of: {', '.join(FaultKind)}"
            )
        times = match["times"] or "1"
        return cls(FaultKind(match["kind"]), None if times == "always" else int(times))


class FaultSequence:
    """
    Leads each audio through the same faults, one after the other.

    :param faults: in the order in which they are met
    """

    def __init__(self, faults: Iterable[AudioFault]) -> None:
        self._faults = tuple(faults)
        self._met: Counter[str] = Counter()

    def next_for(self, name: str) -> FaultKind | None:
        """Return the fault whose turn it is for an audio; ``None`` when all are behind it."""
        before = self._met[name]
        for fault in self._faults:
            if fault.times is None or before < fault.times:
                return fault.kind
            before -= fault.times
        return None

    def count(self, name: str) -> None:
        """Take note that an audio has met its fault."""
        self._met[name] += 1
