"""What a batch may spend and has spent: the limit of its characters, characters by voice, and their cost."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.redaction import quote_value

if TYPE_CHECKING:
    from collections.abc import Iterator

UNKNOWN_VOICE = "unknown"
"""Voice of accepted lines in results of version 1.0, which had no ``VoiceId`` before their audio was stored."""
OTHER_VOICES = "other voices"
MAX_VOICES = 1000
"""Voices with sums of their own in JSON, by most characters; the others have one sum."""
MAX_LISTED_VOICES = 20
"""Voices with sums of their own in tables and log lines."""
MAX_VOICE_CHARACTERS = 200
"""Longer names of voices, which a manifest can have, are cut."""
MAX_PRICE = 10**9
_COST_STEP = Decimal("0.0001")
_ARITHMETIC = Context(prec=50)
"""Enough digits for all rows of a result manifest, whatever precision the process has set for its own numbers."""


class CharacterBudget:
    """
    The characters that one run of a batch may submit; for one event loop.

    A submit reserves its characters before its request is sent. It returns them only if MPS certainly did not accept
    the text, so that requests in flight, and those with an unknown outcome, count.

    :param limit: ``None`` for no limit
    :param used: characters that the run submitted before it deferred
    """

    def __init__(self, limit: int | None = None, used: int = 0) -> None:
        self.limit = limit
        self.used = used

    def can_use(self, characters: int) -> bool:
        """Return whether so many more characters stay within the limit."""
        return self.limit is None or self.used + characters <= self.limit

    @contextmanager
    def reserve(self, characters: int) -> Iterator[Reservation]:
        """Reserve characters; return them at the end, unless the reservation is kept."""
        reservation = Reservation()
        self.used += characters
        try:
            yield reservation
        finally:
            if not reservation.is_kept:
                self.used -= characters


@dataclass
class Reservation:
    """The characters of one submit."""

    is_kept: bool = False
    """Whether MPS may bill them."""


@dataclass
class Spending:
    """
    Lines and characters by voice, and what they cost.

    Costs are rounded half up to four decimals. The cost of all voices is computed from all characters, so it can differ
    from the sum of the rounded costs.
    """

    price: Decimal | None = None
    """Of 1,000 characters; ``None`` if the user gave none."""
    characters: Counter[str] = field(default_factory=Counter)
    lines: Counter[str] = field(default_factory=Counter)

    def add(self, voice: str | None, characters: int) -> None:
        """Count a line."""
        name = _make_voice_name(voice)
        self.characters[name] += characters
        self.lines[name] += 1

    @property
    def total_characters(self) -> int:
        """The characters of all voices."""
        return self.characters.total()

    @property
    def total_lines(self) -> int:
        """The lines of all voices."""
        return self.lines.total()

    def compute_cost(self, characters: int) -> Decimal | None:
        """Return the cost of so many characters; ``None`` without a price."""
        if self.price is None:
            return None
        cost = _ARITHMETIC.multiply(self.price, characters).scaleb(-3, _ARITHMETIC)
        return cost.quantize(_COST_STEP, ROUND_HALF_UP, _ARITHMETIC)

    def list_voices(self, limit: int) -> list[tuple[str, int, int]]:
        """Return the voices with the most characters, each with its lines and characters, and a sum of the others."""
        ordered = sorted(self.characters.items(), key=lambda item: (-item[1], item[0]))
        listed = [(voice, self.lines[voice], characters) for voice, characters in ordered[:limit]]
        if others := ordered[limit:]:
            lines = sum(self.lines[voice] for voice, _ in others)
            listed.append((OTHER_VOICES, lines, sum(characters for _, characters in others)))
        return listed

    def to_json(self) -> dict[str, Any]:
        """Return lines and characters by voice and, with a price, the cost."""
        voices = self.list_voices(MAX_VOICES)
        sums: dict[str, Any] = {
            "lines_by_voice": {voice: lines for voice, lines, _ in voices},
            "characters_by_voice": {voice: characters for voice, _, characters in voices},
        }
        if (cost := self.compute_cost(self.total_characters)) is not None:
            sums["cost"] = float(cost)
            sums["cost_by_voice"] = {
                voice: float(self.compute_cost(characters) or 0) for voice, _, characters in voices
            }
        return sums

    def to_line(self) -> str:
        """Return characters and cost by voice, for a log line."""
        return "; ".join(
            f"{voice}: {characters:,} characters{self.format_cost(characters)}"
            for voice, _, characters in self.list_voices(MAX_LISTED_VOICES)
        )

    def format_cost(self, characters: int) -> str:
        """Return the cost to append to a number of characters; empty without a price."""
        cost = self.compute_cost(characters)
        return "" if cost is None else f" (cost {cost:,})"


def _make_voice_name(voice: str | None) -> str:
    """Return a voice for one line of a log, as a key that differs from ours and from those that Airflow reserves."""
    name = " ".join((voice or UNKNOWN_VOICE)[:MAX_VOICE_CHARACTERS].split())
    return repr(name) if name == OTHER_VOICES or name.startswith("__") else name


def parse_max_total_characters(value: int | str | None) -> int | None:
    """
    Return the argument ``max_total_characters`` as a number; ``None`` means no limit.

    An empty text is an error: a template renders to it if, e.g., the XCom with the approved number is missing.

    :raises InvalidRequestError: if it is not a whole number, or below 0
    """
    if value is None:
        return None
    try:
        limit = -1 if isinstance(value, bool) else int(value)
        if not isinstance(value, str) and limit != value:  # not a whole number
            limit = -1
    except (TypeError, ValueError, OverflowError):
        limit = -1
    if limit < 0:
        raise InvalidRequestError(
            f"max_total_characters must be a whole number that is not negative, not {quote_value(value)}: nothing was "
            "submitted."
        )
    return limit


def parse_price(value: float | str | None) -> Decimal | None:
    """
    Return the argument ``price_per_1000_characters`` as an exact number; ``None`` if there is none.

    :raises InvalidRequestError: if it is not a number from 0 to :data:`MAX_PRICE`
    """
    if value is None or value == "":
        return None
    try:
        # By its shortest spelling: as a binary number, 0.1 is a little more.
        price = Decimal("NaN") if isinstance(value, bool) else Decimal(str(value).strip())
    except (InvalidOperation, ValueError):
        price = Decimal("NaN")
    if not price.is_finite() or not 0 <= price <= MAX_PRICE:
        raise InvalidRequestError(
            f"price_per_1000_characters must be a number from 0 to {MAX_PRICE}, not {quote_value(value)}: nothing was "
            "submitted."
        )
    return price.copy_abs()  # of -0
