"""The arguments of a track: validate them before any work."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.batch.results import Results
from airflow_provider_mps.batch.subtitles import SUBTITLE_SUFFIXES
from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.redaction import describe_error, format_path, get_safe_cause, quote_value
from airflow_provider_mps.storage.deadline import DEFAULT_TRANSFER_TIMEOUT_SECONDS
from airflow_provider_mps.storage.if_exists import IfExists
from airflow_provider_mps.storage.text_file import parse_path

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

AUDIO_SUFFIXES = {".wav": "WAV", ".flac": "FLAC", ".mp3": "MP3"}
"""Formats of a track by the suffix of its file name, as libsndfile names them."""
MIN_SAMPLE_RATE = 8_000
MAX_SAMPLE_RATE = 192_000
MP3_SAMPLE_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Sample rates in Hz of MPEG audio, layer III."""
MAX_GAP_SECONDS = 3_600.0


class Overlap(StrEnum):
    """What to do if a clip lasts longer than until the next one begins."""

    SHIFT = "shift"
    CUT = "cut"
    FAIL = "fail"


class OnMissing(StrEnum):
    """What to do about lines without audio."""

    FAIL = "fail"
    SILENCE = "silence"


@dataclass(frozen=True)
class TrackOptions:
    """
    The arguments of a track, parsed.

    :raises InvalidRequestError: when two paths are the same, or a suffix is not supported
    """

    results: ObjectStoragePath
    destination: ObjectStoragePath
    subtitles: ObjectStoragePath | None = None
    gap: float = 0.0
    """Seconds."""
    overlap: Overlap = Overlap.SHIFT
    on_missing: OnMissing = OnMissing.FAIL
    timeline: bool | None = None
    """Whether each clip begins at its ``start``; ``None`` if that depends on whether the rows have one."""
    sample_rate: int | None = None
    """Hz; ``None`` for the sample rate that all clips have."""
    manifest: ObjectStoragePath | None = None
    """Manifest with the texts of the subtitles; ``None`` for the one that the batch has recorded."""
    subtitle_encoding: str | None = None
    """Encoding of a manifest with subtitles; ``None`` for the one of the batch."""
    if_exists: IfExists = IfExists.OVERWRITE
    transfer_timeout: float = DEFAULT_TRANSFER_TIMEOUT_SECONDS
    """Seconds that reading one clip, and storing the track, may take."""

    def __post_init__(self) -> None:
        named = {"results": self.results, "destination": self.destination}
        if self.subtitles is not None:
            named["subtitles"] = self.subtitles
            if get_suffix(self.subtitles) not in SUBTITLE_SUFFIXES:
                raise InvalidRequestError(
                    f"subtitles must name a file that ends in .srt or .vtt, not {format_path(self.subtitles)}: nothing "
                    "was assembled."
                )
        if self.manifest is not None:
            named["manifest"] = self.manifest
        seen: dict[str, str] = {}
        for name, path in named.items():
            other = seen.setdefault(make_path_key(path), name)
            if other != name:
                raise InvalidRequestError(
                    f"{other} and {name} are the same file, {format_path(path)}: nothing was assembled. Choose another "
                    f"path for {name}."
                )


def parse_results(value: object) -> ObjectStoragePath:
    """
    Return the path of the result manifest: the argument names it or its folder, or is what the batch has returned.

    :raises InvalidRequestError: if it is neither
    """
    if isinstance(value, Mapping) and value.get("dry_run"):
        raise InvalidRequestError(
            "results is the report of a dry run, which makes no clips: nothing was assembled. Set dry_run=False in the "
            "batch."
        )
    given = value.get("results") if isinstance(value, Mapping) else value
    path = _parse_path("results", given, "s3://conn@bucket/clips/results.jsonl")
    return path if path.name.endswith(".jsonl") else Results(path).rows_path


def parse_destination(value: object) -> ObjectStoragePath:
    """
    Return the path of the track.

    :raises InvalidRequestError: if it is not a path, or its suffix is not the one of a format that can be written
    """
    path = _parse_path("destination", value, "s3://conn@bucket/track.wav")
    if str(value).rstrip().endswith("/") or get_suffix(path) not in AUDIO_SUFFIXES:
        raise InvalidRequestError(
            f"destination must name a file that ends in {', '.join(AUDIO_SUFFIXES)}, not {format_path(path)}: nothing "
            "was assembled."
        )
    return path


def parse_optional_path(name: str, value: object, example: str) -> ObjectStoragePath | None:
    """
    Return an argument as a path; ``None`` if it is empty.

    :raises InvalidRequestError: if it is not a path
    """
    return None if _is_empty(value) else _parse_path(name, value, example)


def parse_gap(value: object) -> float:
    """
    Return the argument ``gap`` in seconds.

    :raises InvalidRequestError: if it is not a number of seconds in the allowed range
    """
    seconds = 0.0 if _is_empty(value) else _parse_number(value)
    if not 0 <= seconds <= MAX_GAP_SECONDS:
        raise InvalidRequestError(
            f"gap must be a number of seconds from 0 to {MAX_GAP_SECONDS:g}, not {quote_value(value)}: nothing was "
            "assembled."
        )
    return seconds


def parse_timeline(value: object) -> bool | None:
    """
    Return the argument ``timeline``, which may be a text such as ``"true"``; ``""`` and ``"none"`` mean ``None``.

    :raises InvalidRequestError: if it is not ``True``, ``False`` or ``None``
    """
    if isinstance(value, str):
        value = {"": None, "none": None, "true": True, "false": False}.get(value.strip().lower(), value)
    if value is None or isinstance(value, bool):
        return value
    raise InvalidRequestError(f"timeline must be True, False or None, not {quote_value(value)}: nothing was assembled.")


def parse_if_exists(value: object) -> IfExists:
    """
    Return the argument ``if_exists``.

    :raises InvalidRequestError: if it is neither ``overwrite`` nor ``fail``
    """
    if value in (IfExists.OVERWRITE, IfExists.FAIL):
        return IfExists(str(value))
    raise InvalidRequestError(
        f"if_exists must be 'overwrite' or 'fail' for a track, not {quote_value(value)}: nothing was assembled."
    )


def parse_sample_rate(value: object, destination: ObjectStoragePath) -> int | None:
    """
    Return the argument ``sample_rate`` in Hz.

    :raises InvalidRequestError: if the format of the destination does not have this sample rate
    """
    if _is_empty(value):
        return None
    rate = _parse_number(value)
    if not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE or not rate.is_integer():
        raise InvalidRequestError(
            f"sample_rate must be a whole number from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}, not {quote_value(value)}"
            ": nothing was assembled."
        )
    validate_mp3_rate(int(rate), destination)
    return int(rate)


def validate_mp3_rate(rate: int, destination: ObjectStoragePath) -> None:
    """
    Check that an MP3 can have a sample rate; other formats have them all.

    :raises InvalidRequestError: if it cannot
    """
    if get_suffix(destination) == ".mp3" and rate not in MP3_SAMPLE_RATES:
        raise InvalidRequestError(
            f"An MP3 cannot have {rate} Hz: nothing was stored. Set sample_rate to one of "
            f"{', '.join(map(str, MP3_SAMPLE_RATES))}, or choose a .wav or .flac file."
        )


def get_suffix(path: ObjectStoragePath) -> str:
    """Return the suffix of a file name in lower case."""
    return posixpath.splitext(path.name)[1].lower()


def make_path_key(path: ObjectStoragePath) -> str:
    """Return a text that is equal for two spellings of one path, without its connection."""
    return f"{path.protocol or 'file'}://{posixpath.normpath(path.path)}"


def _parse_path(name: str, value: Any, example: str) -> ObjectStoragePath:
    try:
        path = parse_path(value)
        # Without its slash, `file:///` is not a path.
        return parse_path(str(path).rstrip("/")) if str(path).endswith("/") else path
    except ValueError as error:
        raise InvalidRequestError(
            f"{name} is {quote_value(value, 200)}: nothing was assembled. Give an ObjectStoragePath or a string, e.g. "
            f"{example} ({describe_error(error)})."
        ) from get_safe_cause(error)


def _is_empty(value: object) -> bool:
    """Return whether an argument is not given; a template may render to white space."""
    return value is None or (isinstance(value, str) and not value.strip())


def _parse_number(value: Any) -> float:
    """Return a number that a template may have rendered as text; ``nan`` for any other value."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
