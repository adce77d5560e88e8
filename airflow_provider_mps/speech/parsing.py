"""Validate and convert arguments of speech operators."""

from __future__ import annotations

import math
import re
from enum import StrEnum
from typing import TypeVar

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.redaction import quote_value

E = TypeVar("E", bound=StrEnum)

_CONTROL_CHARACTER = re.compile("[\x00-\x08\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""Characters that XML 1.0 forbids, except form feed and vertical tab, which old text files use as page breaks."""


class OnUnknown(StrEnum):
    """What to do with a text if it is unknown whether MPS has accepted it."""

    FAIL = "fail"
    RESUBMIT = "resubmit"


class JsonFloat(float):
    """
    A float of a JSON document that keeps its spelling: as ids, ``1.0`` and ``1.00`` differ.

    Pass this class to ``json.loads`` as ``parse_float``.
    """

    def __new__(cls, literal: str) -> JsonFloat:
        """Parse the number and keep its literal."""
        number = super().__new__(cls, literal)
        number.literal = literal
        return number

    literal: str

    def __str__(self) -> str:
        return self.literal


def to_text(value: object) -> object:
    """
    Return a number as text, and any other value unchanged.

    JSON, and Airflow's ``render_template_as_native_obj``, turn texts such as ``42`` and ``1.0`` into numbers.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, float) and not math.isfinite(value) and not isinstance(value, JsonFloat):
        return value
    try:
        return str(value)
    except ValueError:  # an integer with more digits than Python converts
        return value


def parse_text(name: str, value: object) -> str:
    """
    Return a text that can be sent.

    :raises InvalidRequestError: if the value is empty, not a string, or has control characters or surrogates
    """
    if not isinstance(value, str) or not value.strip():
        is_empty = value is None or isinstance(value, str)
        problem = "is empty" if is_empty else f"must be a text, not {type(value).__name__}"
        raise InvalidRequestError(f"{name} {problem}: nothing was submitted.")
    if found := _CONTROL_CHARACTER.search(value):
        is_surrogate = "\ud800" <= found[0] <= "\udfff"
        problem = "cannot be encoded as UTF-8" if is_surrogate else f"has the control character U+{ord(found[0]):04X}"
        advice = " It may be UTF-16 or binary: save it as UTF-8." if found[0] == "\0" else ""
        raise InvalidRequestError(f"{name} {problem} (character {found.start() + 1}): nothing was submitted.{advice}")
    return value


def parse_choice(choices: type[E], value: object) -> E:
    """
    Return the enum member for an argument's value; the error derives ``if_exists`` from the enum ``IfExists``.

    :raises InvalidRequestError: if there is no such member
    """
    try:
        return choices(value)  # type: ignore[arg-type]
    except ValueError:
        name = re.sub(r"\B(?=[A-Z])", "_", choices.__name__).lower()
        raise InvalidRequestError(f"{name} must be one of {', '.join(choices)}, not {quote_value(value)}.") from None
