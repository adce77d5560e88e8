"""Write subtitles with the times of a track, as SubRip (``.srt``) or WebVTT (``.vtt``)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mps.batch.line import ManifestLine
from airflow_provider_mps.batch.manifest import read_manifest
from airflow_provider_mps.batch.subtitle_encoding import parse_encoding
from airflow_provider_mps.batch.track.options import get_suffix
from airflow_provider_mps.exceptions import DestinationError, InvalidRequestError
from airflow_provider_mps.redaction import get_safe_cause
from airflow_provider_mps.speech.parsing import to_text
from airflow_provider_mps.speech.request import hash_text
from airflow_provider_mps.storage.if_exists import IfExists
from airflow_provider_mps.storage.objects import create_object, write_object
from airflow_provider_mps.storage.text_file import parse_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.batch.row import Row
    from airflow_provider_mps.batch.track.assemble import PlacedClip

CONTENT_TYPES = {".srt": "application/x-subrip", ".vtt": "text/vtt"}
_ARROW = re.compile("-{2,}>")
"""What separates the times of a cue, and must not be in its text."""


@dataclass(frozen=True, slots=True)
class Subtitle:
    """A text, and when it is heard."""

    begin: float
    """Seconds."""
    end: float
    text: str


def find_manifest(given: ObjectStoragePath | None, summary: Mapping[str, Any]) -> ObjectStoragePath:
    """
    Return the manifest with the texts of a batch.

    :param given: the argument ``manifest``
    :param summary: of the batch
    :raises InvalidRequestError: if neither names one
    """
    if given is not None:
        return given
    try:
        return parse_path(summary.get("manifest") or "")
    except ValueError as error:
        raise InvalidRequestError(
            "subtitles need the texts of the batch, and its summary.json names no manifest: nothing was assembled. Set "
            "manifest to the one that the batch has read."
        ) from get_safe_cause(error)


def find_encoding(given: str | None, manifest: ObjectStoragePath, summary: Mapping[str, Any]) -> str | None:
    """
    Return the encoding of a subtitle file; ``None`` to detect it.

    :param given: the argument ``subtitle_encoding``
    :param summary: of the batch, which has the encoding of its own manifest
    """
    if given is not None or str(manifest) != summary.get("manifest"):
        return given
    try:
        return parse_encoding(summary.get("subtitle_encoding"))
    except InvalidRequestError:  # the file was edited
        return None


def read_texts(manifest: ObjectStoragePath, rows: Iterable[Row], encoding: str | None = None) -> dict[str, str]:
    """
    Return the text of each row by its id.

    :param encoding: of a subtitle file; ``None`` to detect it
    :raises AirflowFailException: if a text is not the one that the batch has sent
    """
    wanted = {row.id: row for row in rows}
    texts: dict[str, str] = {}
    for line in read_manifest(manifest, encoding):
        if isinstance(line, ManifestLine) and line.id in wanted and line.id not in texts:
            text = str(to_text(line.read_text(manifest)))
            row = wanted[line.id]
            is_same = len(text) == row.characters if row.text_hash is None else hash_text(text) == row.text_hash
            if not is_same:
                raise AirflowFailException(
                    f"The text of line {line.id} in {manifest} is not the one that the batch has sent: the manifest "
                    "has changed since the batch. Nothing was assembled. Run the batch again, or name its manifest in "
                    "the argument manifest."
                )
            texts[line.id] = text
    absent = [row_id or "" for row_id in wanted if row_id not in texts]
    if absent:
        raise AirflowFailException(
            f"{len(absent):,} lines of the batch are not in {manifest}, e.g. {absent[0]}: the manifest has changed "
            "since the batch. Nothing was assembled. Run the batch again, or name its manifest in the argument "
            "manifest."
        )
    return texts


def format_subtitles(subtitles: Iterable[Subtitle], suffix: str) -> Iterator[bytes]:
    """
    Yield the cues of a subtitle file in UTF-8.

    :param suffix: ``.srt`` or ``.vtt``
    """
    is_vtt = suffix == ".vtt"
    if is_vtt:
        yield b"WEBVTT\n\n"
    for number, subtitle in enumerate(subtitles, 1):
        begin = round(subtitle.begin * 1000)
        end = max(begin + 1, round(subtitle.end * 1000))
        times = f"{_format_time(begin, is_vtt=is_vtt)} --> {_format_time(end, is_vtt=is_vtt)}"
        yield f"{number}\n{times}\n{_format_text(subtitle.text, is_vtt=is_vtt)}\n\n".encode("utf-8", "replace")


def _format_time(milliseconds: int, *, is_vtt: bool) -> str:
    seconds, fraction = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{'.' if is_vtt else ','}{fraction:03}"


def _format_text(text: str, *, is_vtt: bool) -> str:
    """Return a text without empty lines, which would end the cue."""
    lines = "\n".join(stripped for line in text.splitlines() if (stripped := line.strip()))
    if is_vtt:
        return lines.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _ARROW.sub("->", lines)  # SubRip has no escapes


def store_subtitles(
    path: ObjectStoragePath, clips: Iterable[PlacedClip], texts: Mapping[str, str], if_exists: IfExists
) -> int:
    """
    Write the subtitles of a track, and return their size in bytes.

    :param texts: the text of each line by its id
    :raises DestinationError: if the file exists, and ``if_exists`` is ``fail``
    """
    subtitles = (Subtitle(clip.begin, clip.end, texts[clip.row.id or ""]) for clip in clips)
    content = b"".join(format_subtitles(subtitles, get_suffix(path)))
    if if_exists is IfExists.FAIL:
        if not create_object(path, content):
            raise DestinationError(
                f"The track was stored, but its subtitles were not: {path} exists already and if_exists is 'fail'. "
                "Remove both files, or choose other paths."
            )
        return len(content)
    return write_object(path, [content], CONTENT_TYPES[get_suffix(path)])
