"""Arguments that are sent as text: what counts as one, and which characters no text has."""

from __future__ import annotations

import math
import re

from airflow_provider_mps.errors import InvalidRequestError

_NOT_IN_TEXT = re.compile("[^\t\n\v\f\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 refuses too, beside form feed and vertical tab, which old text files have between pages."""
_NOT_IN_NAME = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and surrogates."""


class WrittenNumber(float):
    """
    A number of a JSON document that remembers how it was written: ``1.0`` and ``1.00`` are different names.

    Pass it to ``json.loads`` as ``parse_float``.
    """

    def __new__(cls, written: str) -> WrittenNumber:
        """Keep the number's own text."""
        number = super().__new__(cls, written)
        number.written = written
        return number

    written: str

    def __str__(self) -> str:
        return self.written


def to_text(value: object) -> object:
    """
    Return a number as the text that was meant; anything else as it is.

    JSON, and Airflow's ``render_template_as_native_obj``, make numbers of texts such as ``42`` and ``1.0``.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, float) and not math.isfinite(value) and not isinstance(value, WrittenNumber):
        return value
    try:
        return str(value)
    except ValueError:  # more digits than Python writes
        return value


def require_text(name: str, value: object) -> str:
    """
    Return a text that can be sent.

    :param name: of the argument, for the error
    :raises InvalidRequestError: when it is empty, no text, or has characters that no text has
    """
    if not isinstance(value, str) or not value.strip():
        problem = "is empty" if value is None or isinstance(value, str) else f"is no text but {type(value).__name__}"
        raise InvalidRequestError(f"{name} {problem}: nothing was submitted.")
    require_characters(name, value)
    return value


def require_characters(name: str, text: str) -> None:
    """
    Return where a text has only characters that can be spoken or stand between them.

    :raises InvalidRequestError: which names the first other one
    """
    if found := _NOT_IN_TEXT.search(text):
        code = ord(found[0])
        if "\ud800" <= found[0] <= "\udfff":
            problem = f"cannot be written as UTF-8 (character {found.start() + 1})"
        else:
            problem = f"has the control character U+{code:04X} (character {found.start() + 1})"
        advice = " It may be UTF-16, or no text file: save it as UTF-8." if code == 0 else ""
        raise InvalidRequestError(f"{name} {problem}: nothing was submitted.{advice}")


def has_control_characters(name: str) -> bool:
    """Return whether a file's name has a control character or a surrogate, which no storage takes."""
    return _NOT_IN_NAME.search(name) is not None
