"""Decode a subtitle file of unknown encoding, or reject it rather than submit garbage, which would be billed."""

from __future__ import annotations

import codecs
import re
import unicodedata
from contextlib import suppress

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.redaction import quote_value

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose byte order mark is its start
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDE_ENCODINGS = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
_WESTERN_ALPHABETS = (
    "àâäæçèéêëîïôöùûüÿœ",  # French
    "äëïöüßéèáóíâêôûàç",  # German, Dutch
    "áéíñóúüçàèïòªº¡¿",  # Spanish, Catalan
    "àèéìíîòóùúªº",  # Italian
    "áâãàçéêíóôõúüªº",  # Portuguese
    "åäöéüáàæøèôó",  # Swedish, Danish, Norwegian, Finnish
    "áéíóúýæöðþ",  # Icelandic
)
"""
What a text in CP1252 may have besides ASCII and punctuation.

A text in another 8-bit encoding, decoded as CP1252, has letters of several of these alphabets.
"""
_WESTERN_PUNCTUATION = frozenset("\xa0\xad«»‘’“”„…–—•·€£§©®™°´½×÷")  # noqa: RUF001 - typographic quotes
_MAX_OTHER_SHARE = 0.05
"""Allowed share of special characters that one alphabet does not have, e.g. in a foreign name."""
_MAX_ACCENTED_SHARE = 1 / 3
"""Allowed share of special characters among all letters."""
_NOT_WESTERN = re.compile(r"[^\W\d_\x00-\x7f]{3}|[^\W\d_][„“”•][^\W\d_]|(?<!\d)[ªº][^\W\d_]")
"""
Words of accented letters, as from a Cyrillic encoding; quotes within a word, as from CP850; or an ordinal indicator
before a letter, as from Romanian in CP1250.
"""
_MARKUP = re.compile(r"<[^<>]*>|\{[^{}]*\}")


def parse_encoding(encoding: object) -> str | None:
    """
    Return the argument ``subtitle_encoding``; ``None``, to detect the encoding, if it is empty.

    :raises InvalidRequestError: if Python has no text encoding of that name
    """
    if encoding is None or (isinstance(encoding, str) and not encoding.strip()):
        return None
    if isinstance(encoding, str):
        with suppress(LookupError, ValueError):
            "".encode(encoding.strip())
            return encoding.strip()
    raise InvalidRequestError(
        f"subtitle_encoding {quote_value(encoding)} is not a text encoding of Python, so nothing was submitted. Use "
        "e.g. utf-8, cp1252, gb18030, shift_jis or cp1251, or leave it out."
    )


def decode_subtitles(content: bytes, name: str, encoding: str | None) -> tuple[str, str]:
    """
    Decode a subtitle file, without its byte order mark.

    :param name: the path of the file, for the error
    :param encoding: the encoding; ``None`` to detect it
    :return: the text and its encoding
    :raises InvalidRequestError: if the content does not have the encoding, or the encoding cannot be detected
    """
    if encoding is None:
        encoding = next((known for bom, known in _BOMS if content.startswith(bom)), None)
        return _decode_as(content, name, encoding) if encoding else _detect_encoding(content, name)
    return _decode_as(content, name, encoding)


def _decode_as(content: bytes, name: str, encoding: str) -> tuple[str, str]:
    try:
        return content.decode(encoding).removeprefix("\ufeff"), encoding
    except ValueError as error:
        position = f" at byte {error.start + 1}" if isinstance(error, UnicodeDecodeError) else ""
        raise InvalidRequestError(
            f"The manifest {name} is not valid {encoding}{position}, so nothing was submitted. Set subtitle_encoding "
            "to the encoding that it was saved in."
        ) from None


def _detect_encoding(content: bytes, name: str) -> tuple[str, str]:
    candidates = [*(_WIDE_ENCODINGS if b"\0" in content else ()), "utf-8", "cp1252"]
    for encoding in candidates:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        is_plausible = encoding == "utf-8" or ("-->" in text and "\0" not in text)
        if is_plausible and (encoding != "cp1252" or _is_western(text)):
            return text, encoding
    raise InvalidRequestError(
        f"The encoding of the manifest {name} cannot be detected, so nothing was submitted. Set subtitle_encoding, "
        "e.g. cp1252 (Western Europe), gb18030, big5, shift_jis or cp1251, or save the file as UTF-8."
    )


def _is_western(text: str) -> bool:
    """Return whether a text that was decoded as CP1252 is one in a Western European language."""
    # Composed, so that the lower case of a letter is one character.
    text = unicodedata.normalize("NFC", _MARKUP.sub("", text)).lower()
    if _NOT_WESTERN.search(text):
        return False
    special = [character for character in text if not character.isascii() and character not in _WESTERN_PUNCTUATION]
    letters = sum(character.isalpha() for character in text)
    if len(special) > letters * _MAX_ACCENTED_SHARE:
        return False
    others = min(sum(character not in alphabet for character in special) for alphabet in _WESTERN_ALPHABETS)
    return others <= len(special) * _MAX_OTHER_SHARE
