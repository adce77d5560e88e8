"""
Read the cues of a SubRip (``.srt``) or WebVTT (``.vtt``) file as manifest lines.

This module finds the cues, because pysubs2 1.8 does not report a malformed timing line: it adds it to the text of the
cue before, which would be billed.
"""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from airflow_provider_mps.batch.line import InvalidLine, ManifestLine
from airflow_provider_mps.batch.subtitle_encoding import decode_subtitles
from airflow_provider_mps.batch.subtitle_markup import remove_markup
from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.redaction import quote_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUBTITLE_SUFFIXES = (".srt", ".vtt")
MAX_SUBTITLE_BYTES = 20 * 1024 * 1024
_CLOCK = r"(?:(\d{1,9}):)?([0-5]?\d):([0-5]?\d)(?:[,.](\d{1,3}))?"
_TIMING = re.compile(
    # After the times: settings of WebVTT (`align:start`), or coordinates of SubRip (`X1:100`).
    rf"\s*{_CLOCK}\s*-->\s*{_CLOCK}(?:\s+[A-Za-z]\w*:\S+)*\s*",
    re.ASCII,
)
_LOOSE_CLOCK = r"\d{1,9}\s?:\s?\d{1,9}\s?[:.,]\s?\d{1,9}(?:\s?[:.,]\s?\d{1,9})?"
_BROKEN_TIMING = re.compile(
    r".*\d\s*[:.,]\s*\S*\d\S*\s*-->"  # a time before an arrow
    r"|.*-->\s*\S*\d\S*\s*[:.,]\s*\S*\d"  # a time after an arrow
    rf"|\s*{_LOOSE_CLOCK}(?:\W|&gt;){{1,8}}{_LOOSE_CLOCK}\s*$",  # two times, and a wrong arrow or none
    re.ASCII,
)
"""A line that was meant as a timing line, e.g. ``00:00:01,000 -> 00:00:02,000``; slow for long lines."""
_MAX_TIMING_CHARACTERS = 200
"""Longer lines are not compared with :data:`_BROKEN_TIMING`, which takes quadratic time."""
_TIMING_IN_TEXT = re.compile(rf"{_LOOSE_CLOCK}[^A-Za-z]{{0,8}}>[^A-Za-z]{{0,8}}{_LOOSE_CLOCK}", re.ASCII)
_CUE_NUMBER = re.compile(r"\s*(\d{1,18})\s*")
_LOOSE_CUE_NUMBER = re.compile(r"\s*[#-]?(\d{1,18})[.:)]?\s*")
"""A number with punctuation, which is only accepted where a number must be."""
_INVISIBLE = re.compile("[\xad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
"""E.g. marks of the writing direction, which editors also put before numbers and times."""
_SPACE = re.compile("[\xa0\u2000-\u200a\u202f\u3000]")
_SKIPPED_BLOCK = re.compile(r"(?:NOTE|STYLE|REGION|WEBVTT)(?=\s|$)")


@dataclass(frozen=True)
class SubtitleStatistics:
    """What is reported about a subtitle file besides its lines."""

    encoding: str
    cues: int
    empty_cues: int
    """Cues without a text, which are skipped."""
    has_own_ids: bool
    """Whether the ids are the cues' own numbers or identifiers, and not their positions."""


@dataclass
class _Cue:
    number: int
    """The line number of its timing line."""
    times: tuple[float, float] | None
    """Start and end in seconds; ``None`` if its timing line is invalid."""
    identifier: str | None = None
    lines: list[str] = field(default_factory=list)
    error: InvalidLine | None = None


def is_subtitle_path(path: object) -> bool:
    """Return whether the name of a manifest is the one of a subtitle file."""
    return str(path).lower().endswith(SUBTITLE_SUFFIXES)


def read_subtitles(
    file: IO[bytes], name: str, encoding: str | None, report: Callable[[SubtitleStatistics], None]
) -> Iterator[ManifestLine | InvalidLine]:
    """
    Read the cues of a subtitle file; cues without a text are skipped.

    :param name: the path of the file, for its format and for errors
    :param encoding: its encoding; ``None`` to detect it
    :param report: called once, before the first line
    :raises InvalidRequestError: if it is too long, cannot be decoded or has no cue, or pysubs2 is not installed
    """
    try:
        import pysubs2  # noqa: F401, PLC0415 - checked before any line is read
    except ImportError as error:
        raise InvalidRequestError(
            f"The manifest {name} is a subtitle file, and pysubs2 is not installed: nothing was submitted. Install "
            "airflow-provider-mps[subtitles]."
        ) from error
    text, found_encoding = decode_subtitles(_read_content(file, name), name, encoding)
    # Files that were put together from several have byte order marks within.
    lines = [line.lstrip("\ufeff") for line in re.split(r"\r*\n|\r", text)]
    is_webvtt = name.lower().endswith(".vtt") or text.startswith("WEBVTT")
    cues, errors = _find_webvtt_cues(lines) if is_webvtt else _find_subrip_cues(lines)
    if not cues:
        raise InvalidRequestError(
            f"The manifest {name} has no cue with a line such as 00:00:01,000 --> 00:00:02,500: nothing was submitted."
        )
    own_ids = _find_own_ids(cues)
    ids = own_ids or [f"cue-{position:05}" for position in range(1, len(cues) + 1)]
    found = [_make_line(cue, cue_id, is_webvtt=is_webvtt) for cue, cue_id in zip(cues, ids, strict=True)]
    report(SubtitleStatistics(found_encoding, len(cues), found.count(None), has_own_ids=own_ids is not None))
    yield from sorted([*(line for line in found if line), *errors], key=lambda line: line.number)


def _read_content(file: IO[bytes], name: str) -> bytes:
    content = bytearray()
    while len(content) <= MAX_SUBTITLE_BYTES and (block := file.read(1024 * 1024)):
        content += block
    if len(content) > MAX_SUBTITLE_BYTES:
        raise InvalidRequestError(
            f"The manifest {name} has more than {MAX_SUBTITLE_BYTES} bytes, the limit of a subtitle file: nothing was "
            "submitted. Split it."
        )
    return bytes(content)


def _find_subrip_cues(lines: list[str]) -> tuple[list[_Cue], list[InvalidLine]]:
    """Return the cues, and the error of a text before the first one. A cue ends where the next one begins."""
    cues: list[_Cue] = []
    errors: list[InvalidLine] = []
    before: list[str] = []  # before the first cue
    for number, line in enumerate(lines, 1):
        previous = cues[-1] if cues else None
        current = before if previous is None else previous.lines
        if _is_timing(line, previous, current):
            _report_unclear_end(line, previous)
            identifier = _pop_cue_number(current, previous)
            if identifier is None and previous and _is_after_blank(current):
                # It is where the number of the next cue should be; as a text of this cue it could be billed.
                _make_invalid(previous, f"{quote_value(current[-1].strip())} is not the number of a cue.")
            cues.append(_parse_timing(number, line, identifier))
        elif "-->" in line:
            _reject_arrow(number, line, cues, errors)
        else:
            current.append(line)
    if cues and (text := next((line for line in before if line.strip()), None)):
        errors.append(_make_stray_error(before.index(text) + 1, text))
    return cues, errors


def _find_webvtt_cues(lines: list[str]) -> tuple[list[_Cue], list[InvalidLine]]:
    """Return the cues, and the errors of texts outside of cues. A cue ends at a blank line."""
    cues: list[_Cue] = []
    errors: list[InvalidLine] = []
    start = 0
    while start < len(lines):
        end = next((end for end in range(start, len(lines)) if not lines[end].strip()), len(lines))
        block, first = lines[start:end], start + 1
        start = end + 1
        if block and (skipped := _SKIPPED_BLOCK.match(block[0])):
            count = len(block) if skipped[0] == "NOTE" else _count_header_lines(block)
            block, first = block[count:], first + count
        if block:
            _parse_webvtt_block(block, first, cues, errors)
    return cues, errors


def _count_header_lines(block: list[str]) -> int:
    """Return the lines before the first cue of a block; https://www.w3.org/TR/webvtt1/#file-parsing."""
    timings = (position for position in range(1, len(block)) if _TIMING.fullmatch(_simplify(block[position])))
    first = next(timings, len(block))
    has_number = 1 < first < len(block) and _CUE_NUMBER.fullmatch(_simplify(block[first - 1])) is not None
    return first - has_number


def _parse_webvtt_block(block: list[str], first: int, cues: list[_Cue], errors: list[InvalidLine]) -> None:
    own: list[_Cue] = []
    before: list[str] = []
    for number, line in enumerate(block, first):
        previous = own[-1] if own else None
        current = before if previous is None else previous.lines
        if _is_timing(line, previous, current):
            _report_unclear_end(line, previous)
            identifier = _pop_cue_number(current, previous)
            if identifier is None and before and not own:
                identifier = before.pop().strip()
            own.append(_parse_timing(number, line, identifier))
        elif "-->" in line:
            _reject_arrow(number, line, own, errors)
            before.clear()
        else:
            current.append(line)
    if before:
        errors.append(_make_stray_error(first, before[0]))
    cues += own


def _simplify(line: str) -> str:
    """Return a line without invisible characters, and with ordinary spaces."""
    return _SPACE.sub(" ", _INVISIBLE.sub("", line))


def _is_after_blank(lines: list[str]) -> bool:
    """Return whether the last line has a text, and the line before it has none."""
    return len(lines) > 1 and bool(lines[-1].strip()) and not lines[-2].strip()


def _is_timing(line: str, previous: _Cue | None, before: list[str]) -> bool:
    """Return whether a line begins a cue, even if its times are invalid."""
    line = _simplify(line)
    if _TIMING.fullmatch(line):
        return True
    is_after_number = bool(before) and (not before[-1].strip() or _CUE_NUMBER.fullmatch(before[-1]) is not None)
    if not is_after_number and previous is not None and ">" not in line:
        return False  # e.g. the text "10:30:00 - 11:30:00"
    is_broken = len(line) <= _MAX_TIMING_CHARACTERS and _BROKEN_TIMING.match(line) is not None
    return is_broken or ("-->" in line and is_after_number)


def _report_unclear_end(line: str, previous: _Cue | None) -> None:
    """Make a cue invalid if a broken timing line follows its text without a blank line: it may be a part of it."""
    if previous is None or _TIMING.fullmatch(_simplify(line)) or not previous.lines or not previous.lines[-1].strip():
        return
    if not _CUE_NUMBER.fullmatch(_simplify(previous.lines[-1])):
        _make_invalid(previous, f"{quote_value(line.strip())} may be its text or a timing line: add a blank line.")


def _pop_cue_number(lines: list[str], previous: _Cue | None) -> str | None:
    """
    Remove the number of the next cue from the end of the lines before its timing line, and return it.

    :param previous: the cue of these lines, which becomes invalid if the number may be its text
    """
    position = len(lines) - 1
    is_separate = position == 0 if previous is None else _is_after_blank(lines)
    if position >= 0 and not lines[position].strip():
        # There may be blank lines between all lines of the file. Then one precedes the number too; otherwise the number
        # is the text of the cue before.
        position -= 1
        if position < 0 or not (previous is None or (position > 0 and not lines[position - 1].strip())):
            return None
    if position < 0:
        return None
    match = (_LOOSE_CUE_NUMBER if is_separate else _CUE_NUMBER).fullmatch(_simplify(lines[position]))
    if not match:
        return None
    if previous is not None and previous.identifier is None and not is_separate:
        _make_invalid(
            previous,
            f"{quote_value(match[1])} may be its text or the number of the next cue: add a blank line before or after "
            "it.",
        )
    del lines[position:]
    return str(int(match[1]))


def _make_invalid(cue: _Cue, error: str) -> None:
    if cue.error is None:
        cue.error = InvalidLine(cue.number, error)


def _parse_timing(number: int, line: str, identifier: str | None) -> _Cue:
    match = _TIMING.fullmatch(_simplify(line))
    start, end = (_parse_clock(match.groups()[i : i + 4]) for i in (0, 4)) if match else (None, None)
    if start is not None and end is not None:
        return _Cue(number, (start, end), identifier)
    error = f"{quote_value(line.strip())} is not a timing line such as 00:00:01,000 --> 00:00:02,500."
    return _Cue(number, None, identifier, error=InvalidLine(number, error))


def _parse_clock(groups: tuple[str | None, ...]) -> float | None:
    """Return a time in seconds, exact to the millisecond; ``None`` if it may be hours and minutes only."""
    hours, minutes, seconds, fraction = groups
    if hours is None and not fraction:
        return None
    whole = int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    return (whole * 1000 + int((fraction or "0").ljust(3, "0"))) / 1000


def _reject_arrow(number: int, line: str, cues: list[_Cue], errors: list[InvalidLine]) -> None:
    """Make the last cue invalid, because a line of its text has an arrow: the line may be a damaged timing line."""
    error = InvalidLine(number, f"the arrow '-->' is only allowed in timing lines, not in {quote_value(line.strip())}.")
    if not cues:
        errors.append(error)
    elif cues[-1].error is None:
        cues[-1].error = error


def _make_stray_error(number: int, text: str) -> InvalidLine:
    return InvalidLine(number, f"{quote_value(text.strip())} is not part of a cue: remove it, or add a timing line.")


def _find_own_ids(cues: list[_Cue]) -> list[str] | None:
    """Return ids of the cues' own numbers or identifiers; ``None`` if not every cue has one that can be its id."""
    own: list[str] = []
    for cue in cues:
        if not cue.identifier:
            return None
        own.append(f"cue-{int(cue.identifier):05}" if _CUE_NUMBER.fullmatch(cue.identifier) else cue.identifier)
    try:
        ids = [ManifestLine.parse(0, {"id": each}).id for each in own]
    except InvalidRequestError:
        return None
    return ids if len(set(ids)) == len(ids) else None


def _make_line(cue: _Cue, cue_id: str, *, is_webvtt: bool) -> ManifestLine | InvalidLine | None:
    """Return the line of a cue; ``None`` if it has no text."""
    if cue.error or cue.times is None:
        return cue.error
    text = remove_markup("\n".join(cue.lines))
    if "-->" in text:  # markup interrupted it in the file, e.g. `--<i></i>>`
        return InvalidLine(cue.number, "the arrow '-->' is only allowed in timing lines.")
    text = " ".join(line.strip() for line in (html.unescape(text) if is_webvtt else text).split("\n") if line.strip())
    if _TIMING_IN_TEXT.search(text):  # in the file, it is on two lines, or its arrow is an entity
        return InvalidLine(cue.number, "the text of the cue holds a timing line: write it on a line of its own.")
    if all(character.isspace() or unicodedata.category(character) == "Cf" for character in text):
        return None
    start, end = cue.times
    try:
        return ManifestLine.parse(cue.number, {"id": cue_id, "text": text, "start": start, "end": end})
    except InvalidRequestError as error:
        return InvalidLine(cue.number, str(error))
