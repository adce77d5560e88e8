"""Remove the markup of a cue, and nothing else: its text is billed, and must not lose a word."""

from __future__ import annotations

import re

_INLINE_TIME = re.compile(r"<(?:\d+:)?\d+:\d+[.,]\d+>", re.ASCII)
_LINE_BREAK = re.compile(
    r"<\s{0,3}br\s{0,3}/?\s{0,3}>|<\s{0,3}/?\s{0,3}(?:p|div)(?:\s+[\w:-]+\s{0,3}=[^<>]*)?>", re.IGNORECASE
)
_TAG_NAME = r"(?:i|b|u|s|c|v|em|strong|small|big|sub|sup|center|strike|del|ins|mark|tt|span|font|ruby|rt|rp|lang)"
_ATTRIBUTE = r"""\s+[\w:-]+\s{0,3}=\s{0,3}(?:"[^"]*"|'[^']*'|[^\s"'<>]+)"""
_MARKUP = re.compile(
    rf"<\s{{0,3}}/\s{{0,3}}(?:{_TAG_NAME}|a)\s{{0,3}}>"
    rf"|<\s{{0,3}}{_TAG_NAME}(?:\.[\w.-]+)?\s{{0,3}}/?>"
    rf"|<(?:{_TAG_NAME}|a)(?:{_ATTRIBUTE})+\s{{0,3}}/?>"
    r"|<font\s[^<>]*>|<(?:v|lang)(?:\.[\w.-]+)?\s[^<>]+>"
    r"|\{\\[^{}]*\}|\{[ycfspo]:[$\w,/]*\}"  # of ASS, and of MicroDVD
    r"|(?:(?<!\w)[A-Za-z]:|\\)\\[^\s<>{}]+"  # a Windows path, in which \n is not a line break
    r"|\\[Nnh]",
    re.IGNORECASE,
)
"""Markup; any other brace, bracket or backslash belongs to the text, which is billed and must not lose a word."""
_STAND_INS = str.maketrans({character: chr(0xE000 + ord(character)) for character in "<>{}\\:"})
"""In place of what pysubs2 would take for markup, or for the times of a cue."""
_ORIGINALS = {code: chr(original) for original, code in ((key, ord(value)) for key, value in _STAND_INS.items())}


def remove_markup(text: str) -> str:
    """
    Return the text of a cue without tags of SubRip, WebVTT, ASS and MicroDVD.

    pysubs2 would also remove any other text in braces or in angle brackets.
    """
    import pysubs2  # noqa: PLC0415 - the extra `subtitles`

    text = _LINE_BREAK.sub("\n", _INLINE_TIME.sub("", text))
    parts, end = [], 0
    for markup in _MARKUP.finditer(text):
        parts.append(text[end : markup.start()].translate(_STAND_INS))
        is_path = "\\" in markup[0][1:] and markup[0][0] not in "<{"
        parts.append(markup[0].translate(_STAND_INS) if is_path else markup[0].replace(":", ""))
        end = markup.end()
    parts.append(text[end:].translate(_STAND_INS))
    # pysubs2 takes a number at the end for that of the next cue.
    cue = f"00:00:00,000 --> 00:00:01,000\n{''.join(parts)}\n\n1\n"
    return pysubs2.SSAFile.from_string(cue, format_="srt")[0].plaintext.translate(_ORIGINALS)
