"""One line of a manifest: its fields, checked, and what they ask for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.errors import InvalidRequestError
from airflow_provider_mps.ext_param import SpeechOptions, merged
from airflow_provider_mps.redaction import cause_of, describe_error, quoted, shown_path
from airflow_provider_mps.speech_request import SpeechRequest
from airflow_provider_mps.text_file import as_path, read_text, require_one_text
from airflow_provider_mps.text_value import has_control_characters, to_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.ext_param import ExtParam

OPTIONS = ("ext_param", "sample_rate", "pitch", "target_duration", "translate_to", "translate_requirement")
FIELDS = ("id", "text", "text_path", "voice_id", "text_lang", *OPTIONS)
STATE_FOLDER = ".mps-batch"
MAX_NAME = 200
"""Bytes of each part of an id, which becomes a file's name."""
MAX_ID = 800
"""Bytes of an id: S3 takes 1,024 with the destination's folders and the ending."""
OWN_NAMES = {STATE_FOLDER, "results.jsonl", "summary.json"}
"""What a batch writes in its destination beside the audio."""
_SPECIAL = re.compile(r"::|:/|^data:|\?versionId=")
"""What a library of paths takes for more than a name."""
_LOCAL = {"", "file", "local"}


@dataclass(frozen=True)
class Defaults:
    """What lines have that do not say otherwise."""

    voice_id: str | None = None
    text_lang: str | None = None
    ext_param: ExtParam = field(default_factory=dict)
    max_characters: int | None = None


@dataclass(frozen=True)
class ManifestLine:
    """A line that could be read."""

    number: int
    """From 1."""
    id: str
    fields: Mapping[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, number: int, fields: object) -> ManifestLine:
        """
        Check what can be told without reading anything else.

        :param number: of the line, from 1
        :param fields: by name; what is empty counts as not given
        :raises InvalidRequestError: when it is no line of a manifest
        """
        if not isinstance(fields, dict):
            raise InvalidRequestError(f"the line must be a JSON object, not {type(fields).__name__}.")
        given = {name: value for name, value in fields.items() if value is not None and value != ""}
        if unknown := given.keys() - set(FIELDS):
            raise InvalidRequestError(
                f"the field {quoted(sorted(map(str, unknown))[0])} is unknown. A line has {', '.join(FIELDS)}."
            )
        return cls(number, _checked_id(given.get("id")), given)

    def request(self, defaults: Defaults, manifest: ObjectStoragePath) -> SpeechRequest:
        """
        Return what is to be submitted; this may read a file.

        :param manifest: where the line stands: a relative ``text_path`` is beside it
        :raises InvalidRequestError: when it cannot be submitted as it is
        :raises AirflowException: when its ``text_path`` cannot be read this time
        """
        require_one_text(self.fields.get("text"), self.fields.get("text_path"))
        options = SpeechOptions(**{name: self.fields[name] for name in OPTIONS if name in self.fields})
        ext_param = merged(defaults.ext_param, options.build())
        text_path = self.fields.get("text_path")
        text = self.fields["text"] if text_path is None else read_text(_beside(manifest, text_path))
        return SpeechRequest.checked(
            text,
            self.fields.get("voice_id", defaults.voice_id),
            self.fields.get("text_lang", defaults.text_lang),
            ext_param,
            defaults.max_characters,
        )


@dataclass(frozen=True)
class BrokenLine:
    """A line that cannot be submitted as it is."""

    number: int
    error: str
    id: str | None = None


def _checked_id(value: object) -> str:
    """Return the id of a line, which is the name of its audio without the ending."""
    value = to_text(value)
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequestError("the line has no id, by which its audio and its result are named.")
    name = value.strip()
    parts = name.split("/")
    if (
        has_control_characters(name)
        or "\\" in name
        or not {"", ".", ".."}.isdisjoint(parts)
        or parts[0] in OWN_NAMES
        or _SPECIAL.search(name)
        or len(name.encode("utf-8", "replace")) > MAX_ID
        or any(len(part.encode("utf-8", "replace")) > MAX_NAME for part in parts)
    ):
        raise InvalidRequestError(
            f"the id {quoted(name)} cannot name a file: it may hold folders, separated by single slashes, and neither "
            f"'..' nor '::' nor ':/' nor backslashes nor control characters nor more than {MAX_NAME} bytes between two "
            f"slashes and {MAX_ID} in all, and the names that a batch needs for itself are taken."
        )
    return name


def _beside(manifest: ObjectStoragePath, text_path: object) -> ObjectStoragePath:
    """
    Return where a text lies.

    :raises InvalidRequestError: when a manifest from elsewhere asks for a file of the worker
    """
    if not isinstance(text_path, str):
        raise InvalidRequestError(f"text_path must be a text, not {type(text_path).__name__}: nothing was submitted.")
    is_relative = not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://|/", text_path)
    if is_relative and ".." in PurePosixPath(text_path).parts:
        raise InvalidRequestError(
            f"text_path {shown_path(text_path)} leaves the manifest's folder: nothing was submitted."
        )
    try:
        path = manifest.parent / text_path if is_relative else as_path(text_path)
    except ValueError as error:
        raise InvalidRequestError(
            f"text_path {shown_path(text_path)} cannot be read ({describe_error(error)}): nothing was submitted."
        ) from cause_of(error)
    if path.protocol in _LOCAL and manifest.protocol not in _LOCAL:
        raise InvalidRequestError(
            f"text_path {shown_path(text_path)} is a file of the worker, which a manifest in object storage may "
            "not name: nothing was submitted."
        )
    return path
