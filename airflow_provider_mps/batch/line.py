"""The arguments of a batch, and the lines of its manifest: validate a line, and make its speech request."""

from __future__ import annotations

import math
import posixpath
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.redaction import describe_error, format_path, get_safe_cause, quote_value
from airflow_provider_mps.speech.ext_param import SpeechOptions, merge_ext_params
from airflow_provider_mps.speech.parsing import to_text
from airflow_provider_mps.speech.request import SpeechRequest
from airflow_provider_mps.speech.voices import validate_voice_choice
from airflow_provider_mps.storage.destination import has_control_characters, is_local
from airflow_provider_mps.storage.text_file import parse_path, read_text, validate_text_source

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.polling.intervals import PollInterval
    from airflow_provider_mps.speech.ext_param import ExtParam
    from airflow_provider_mps.speech.parsing import OnUnknown

SPEECH_OPTIONS = ("ext_param", "sample_rate", "pitch", "target_duration", "translate_to", "translate_requirement")
FIELDS = ("id", "text", "text_path", "voice_id", "voice_name", "text_lang", *SPEECH_OPTIONS, "start", "end")
STATE_FOLDER = ".mps-batch"
RESERVED_NAMES = {STATE_FOLDER, "results.jsonl", "summary.json"}
"""What a batch writes to its destination besides the audio."""
MAX_FILE_NAME_BYTES = 200
"""Limit for each part of an id, which becomes the name of a file or folder."""
MAX_ID_BYTES = 800
"""Limit for an id: S3 allows 1,024 bytes for a key, including the destination's folders and the extension."""
MAX_SECONDS = 3_600_000
"""Limit for the times of a line: a thousand hours."""
_SPECIAL_SYNTAX = re.compile(r"::|:/|^data:|\?versionId=")
"""What fsspec and universal_pathlib do not take as part of a name."""


@dataclass(frozen=True)
class LineDefaults:
    """Values for lines that do not set their own."""

    voice_id: str | None = None
    text_lang: str | None = None
    ext_param: ExtParam = field(default_factory=dict)
    max_characters: int | None = None
    voice_name: str | None = None
    """Name of the voice, in place of ``voice_id``."""
    fit_to_cues: bool = False
    """Whether the audio of a line with ``start`` and ``end`` gets that length."""


@dataclass(frozen=True)
class BatchOptions:
    """
    The arguments of a batch, parsed.

    :raises InvalidRequestError: when the manifest has a reserved name in the destination, and would be overwritten
    """

    manifest: ObjectStoragePath
    destination: ObjectStoragePath
    mps_conn_id: str
    region: str | None
    interval: PollInterval
    transfer_timeout: float
    """Seconds that storing one line may take."""
    on_unknown: OnUnknown
    resume: bool = True
    """Whether to continue from the results of another run in the destination."""
    defer_after: float | None = None
    """Seconds of only waiting after which the batch defers; ``None`` for never."""
    defaults: LineDefaults = field(default_factory=LineDefaults)
    subtitle_encoding: str | None = None
    """Encoding of a subtitle file; ``None`` to detect it."""
    keep_voices: bool = False
    """Whether the task resumes after it deferred: a line that MPS has accepted then keeps the voice of its name."""
    max_total_characters: int | None = None
    """The most characters that one run may submit; ``None`` for no limit."""
    submitted_characters: int = 0
    """Characters that this run submitted before it deferred."""
    price_per_1000_characters: Decimal | None = None
    """What the user pays, to report costs."""

    def __post_init__(self) -> None:
        manifest, destination = (posixpath.normpath(path.path) for path in (self.manifest, self.destination))
        name = manifest.removeprefix(destination + "/").partition("/")[0]
        if manifest.startswith(destination + "/") and name in RESERVED_NAMES:
            raise InvalidRequestError(
                f"manifest is {self.manifest}, where the results of this destination are written: nothing was "
                "submitted. Rename the manifest, or choose another destination."
            )


@dataclass(frozen=True)
class ManifestLine:
    """A line of a manifest whose id and field names are valid."""

    number: int
    """The line number in the manifest, from 1."""
    id: str
    fields: Mapping[str, Any] = field(repr=False)
    start: float | None = None
    """Seconds; when the line begins in a track. ``None`` if the manifest does not set it."""
    end: float | None = None
    """Seconds; set only together with ``start``, and later than that."""

    @classmethod
    def parse(cls, number: int, fields: object) -> ManifestLine:
        """
        Parse a line, without reading its text file; empty values count as missing.

        :raises InvalidRequestError: when it is not a valid line
        """
        if not isinstance(fields, dict):
            raise InvalidRequestError(f"the line must be a JSON object, not {type(fields).__name__}.")
        given = {name: value for name, value in fields.items() if value is not None and value != ""}
        if unknown := given.keys() - set(FIELDS):
            name = quote_value(sorted(map(str, unknown))[0])
            raise InvalidRequestError(f"the field {name} is unknown. The fields of a line are {', '.join(FIELDS)}.")
        return cls(number, _parse_id(given.get("id")), given, *_parse_times(given.get("start"), given.get("end")))

    def make_request(self, defaults: LineDefaults, manifest: ObjectStoragePath) -> SpeechRequest:
        """
        Make the request to submit, without looking up its ``voice_name``.

        This reads the file at ``text_path``, which may be relative to the manifest.

        :raises InvalidRequestError: when the line cannot be submitted
        :raises AirflowException: when reading its ``text_path`` failed; a retry may succeed
        """
        fields = self.fields
        validate_text_source(fields.get("text"), fields.get("text_path"))
        voice_id, voice_name = fields.get("voice_id"), fields.get("voice_name")
        if voice_id is None and voice_name is None:
            voice_id, voice_name = defaults.voice_id, defaults.voice_name
        validate_voice_choice(voice_id, voice_name)
        path = self._get_text_path(manifest)
        return SpeechRequest.from_arguments(
            self.read_text(manifest),
            voice_id,
            fields.get("text_lang", defaults.text_lang),
            self._make_ext_param(defaults),
            defaults.max_characters,
            text_source="text" if path is None else f"text_path {format_path(path)}",
            voice_name=voice_name,
        )

    def read_text(self, manifest: ObjectStoragePath) -> Any:
        """
        Return ``text``, or read the file at ``text_path``, which may be relative to the manifest.

        :raises InvalidRequestError: when the file cannot be the text of a line
        :raises AirflowException: when reading it failed; a retry may succeed
        """
        path = self._get_text_path(manifest)
        return self.fields.get("text") if path is None else read_text(path)

    def _get_text_path(self, manifest: ObjectStoragePath) -> ObjectStoragePath | None:
        text_path = self.fields.get("text_path")
        return None if text_path is None else _resolve_text_path(manifest, text_path)

    def _make_ext_param(self, defaults: LineDefaults) -> ExtParam:
        options = SpeechOptions(**{name: self.fields[name] for name in SPEECH_OPTIONS if name in self.fields})
        own = options.build()
        if defaults.fit_to_cues and self.start is not None and self.end is not None:
            own.setdefault("synExt", {}).setdefault("duration", round(self.end - self.start, 3))
        return merge_ext_params(defaults.ext_param, own)


@dataclass(frozen=True)
class InvalidLine:
    """A line that cannot be parsed."""

    number: int
    error: str


def _parse_id(value: object) -> str:
    """Return the id of a line, which is the path of its audio in the destination, without the extension."""
    value = to_text(value)
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequestError("the line has no id, which names its audio and its result.")
    name = value.strip()
    parts = name.split("/")
    if (
        has_control_characters(name)
        or "\\" in name
        or not {"", ".", ".."}.isdisjoint(parts)
        or parts[0] in RESERVED_NAMES
        or _SPECIAL_SYNTAX.search(name)
        or len(name.encode("utf-8", "replace")) > MAX_ID_BYTES
        or any(len(part.encode("utf-8", "replace")) > MAX_FILE_NAME_BYTES for part in parts)
    ):
        raise InvalidRequestError(
            f"the id {quote_value(name)} cannot be a file name. It may have folders, separated by single slashes, of "
            f"up to {MAX_FILE_NAME_BYTES} bytes each and {MAX_ID_BYTES} in all. It must not have '..', '::', ':/', "
            f"backslashes or control characters, or start with {', '.join(sorted(RESERVED_NAMES))}."
        )
    return name


def _parse_times(start: object, end: object) -> tuple[float | None, float | None]:
    """Return ``start`` and ``end`` of a line in seconds."""
    first, last = _parse_time("start", start), _parse_time("end", end)
    if last is not None and (first is None or last <= first):
        raise InvalidRequestError(
            f"end {quote_value(end)} must be later than start {quote_value(start)}, both in seconds: the line was not "
            "submitted."
        )
    return first, last


def _parse_time(name: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < MAX_SECONDS:
        raise InvalidRequestError(
            f"{name} must be a number of seconds from 0 to {MAX_SECONDS}, not {quote_value(value)}: the line was not "
            "submitted."
        )
    return seconds


def _resolve_text_path(manifest: ObjectStoragePath, text_path: object) -> ObjectStoragePath:
    """Return the path of a text file; a manifest in object storage must not name a file of the worker."""
    if not isinstance(text_path, str):
        raise InvalidRequestError(f"text_path must be a text, not {type(text_path).__name__}: nothing was submitted.")
    name = format_path(text_path)
    is_relative = not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://|/", text_path)
    if is_relative and ".." in PurePosixPath(text_path).parts:
        raise InvalidRequestError(f"text_path {name} leaves the manifest's folder: nothing was submitted.")
    try:
        path = manifest.parent / text_path if is_relative else parse_path(text_path)
    except ValueError as error:
        raise InvalidRequestError(
            f"text_path {name} is not a valid path ({describe_error(error)}): nothing was submitted."
        ) from get_safe_cause(error)
    if is_local(path) and not is_local(manifest):
        raise InvalidRequestError(
            f"text_path {name} is a file of the worker, which a manifest in object storage must not name: nothing was "
            "submitted."
        )
    return path
