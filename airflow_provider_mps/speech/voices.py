"""Voices of MPS, and the requests that clone or design one."""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.redaction import quote_value
from airflow_provider_mps.speech.parsing import parse_choice, parse_text, to_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_provider_mps.speech.audio_sample import AudioSample

MAX_TRIAL_CHARACTERS = 500
"""The longest trial text that MPS documents, for a design."""
MAX_CANDIDATES = 10
"""Voices that an error about a name lists."""
_API_NAMES = {
    "name": "Name",
    "description": "Description",
    "gender": "Gender",
    "age": "Age",
    "languages": "Languages",
    "labels": "Labels",
    "scenes": "Scenes",
}
_MISSPELT_GENDERS = {"famale": "female"}


class VoiceType(StrEnum):
    """Where a voice comes from, as the API spells it."""

    SYSTEM = "system"
    """A voice of Tencent, which every account has."""
    CLONE = "clone"
    DESIGN = "design"
    ALL = "all"


class Gender(StrEnum):
    """Gender of a voice, as the API spells it."""

    MALE = "male"
    FEMALE = "female"
    UNKNOWN = "unknown"


class Age(StrEnum):
    """Age of a voice, as the API spells it."""

    CHILD = "child"
    TEENAGER = "teenager"
    YOUTH = "youth"
    MIDDLE_AGED = "middle_aged"
    SENIOR = "senior"
    UNKNOWN = "unknown"


class IfExists(StrEnum):
    """What to do if the account has a clone, or a design, with the name of the one to make."""

    REUSE = "reuse"
    FAIL = "fail"
    CREATE = "create"
    """Make another one with the same name."""


@dataclass(frozen=True)
class Voice:
    """
    A voice as the API described it at one moment; texts that are missing are empty.

    https://www.tencentcloud.com/document/api/1041/79695
    """

    voice_id: str
    """What ``voice_id`` of a submit takes."""
    name: str = ""
    """Not unique: two voices can have the same name."""
    description: str = ""
    category: str = ""
    """``system``, ``clone`` or ``design``."""
    gender: str = ""
    age: str = ""
    languages: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    scenes: tuple[str, ...] = ()
    audio_url: str | None = field(default=None, repr=False)
    """The URL of a trial audio. It may be signed, so it is not in the repr or in logs."""

    @classmethod
    def from_response(cls, voice: object) -> Voice | None:
        """Parse an item of ``Voices``; return ``None`` if it has no ``VoiceId``."""
        if not isinstance(voice, dict) or not (voice_id := _read_text(voice.get("VoiceId"))):
            return None
        gender = _read_text(voice.get("Gender")).lower()
        return cls(
            voice_id=voice_id,
            name=_read_text(voice.get("Name")),
            description=_read_text(voice.get("Description")),
            category=_read_text(voice.get("Category")).lower(),
            gender=_MISSPELT_GENDERS.get(gender, gender),
            age=_read_text(voice.get("Age")).lower(),
            languages=_read_texts(voice.get("Languages")),
            labels=_read_texts(voice.get("Labels")),
            scenes=_read_texts(voice.get("Scenes")),
            audio_url=_read_text(voice.get("AudioUrl")) or None,
        )

    @property
    def is_system(self) -> bool:
        """Whether it is a voice of Tencent, which cannot be changed or deleted."""
        return self.category == VoiceType.SYSTEM


@dataclass(frozen=True)
class CloneRequest:
    """
    A sample of a voice, and the properties of the clone.

    https://www.tencentcloud.com/document/api/1041/82312
    """

    sample: AudioSample
    profile: Mapping[str, Any]
    """``VoiceProfile`` of the API; see :func:`make_voice_fields`."""
    audio_lang: str | None = None
    trial_text: str | None = field(default=None, repr=False)

    @classmethod
    def from_arguments(
        cls, sample: AudioSample, name: object, audio_lang: object, trial_text: object, **fields: object
    ) -> CloneRequest:
        """
        Validate the arguments of a clone.

        :param fields: of the clone; see :func:`make_voice_fields`
        :raises InvalidRequestError: if an argument is invalid
        """
        language = _parse_optional_text("audio_lang", audio_lang)
        profile = make_voice_fields(name=parse_voice_name(name), **fields)
        return cls(sample, profile, language, _parse_trial_text(trial_text))

    def fingerprint(self, *account: str | None) -> str:
        """Return a digest that is equal only for the same request with the same connection id and region."""
        return _digest("clone", self.sample.digest, self.profile, self.audio_lang, self.trial_text, *account)


@dataclass(frozen=True)
class VoiceDesignRequest:
    """
    A description of a voice, and the properties of the result.

    https://www.tencentcloud.com/document/api/1041/79694
    """

    prompt: str
    profile: Mapping[str, Any]
    """``VoiceProfile`` of the API; see :func:`make_voice_fields`."""
    trial_text: str | None = field(default=None, repr=False)

    @classmethod
    def from_arguments(cls, prompt: object, name: object, trial_text: object, **fields: object) -> VoiceDesignRequest:
        """
        Validate the arguments of a design.

        :param fields: of the voice; see :func:`make_voice_fields`
        :raises InvalidRequestError: if an argument is invalid
        """
        profile = make_voice_fields(name=parse_voice_name(name), **fields)
        return cls(parse_text("prompt", to_text(prompt)), profile, _parse_trial_text(trial_text))

    def fingerprint(self, *account: str | None) -> str:
        """Return a digest that is equal only for the same request with the same connection id and region."""
        return _digest("design", self.prompt, self.profile, self.trial_text, *account)


def make_voice_fields(**fields: object) -> dict[str, Any]:
    """
    Return properties of a voice as the API takes them; those that are ``None`` or empty are left out.

    :param fields: ``name``, ``description``, ``gender``, ``age``, and ``languages``, ``labels`` and ``scenes``, each a
        list of texts or one text with commas
    :raises InvalidRequestError: if one is invalid or unknown
    """
    if unknown := sorted(fields.keys() - set(_API_NAMES)):
        raise InvalidRequestError(f"A voice has no field {unknown[0]!r}. Its fields are {', '.join(_API_NAMES)}.")
    parsed = {name: _parse_field(name, to_text(value)) for name, value in fields.items()}
    return {_API_NAMES[name]: value for name, value in parsed.items() if value}


def parse_voice_id(voice_id: object) -> str:
    """
    Return a VoiceId without surrounding white space.

    :raises InvalidRequestError: if it is missing or not a text
    """
    text = parse_text("voice_id", to_text(voice_id)).strip()
    if text == "None":  # a template over a missing XCom
        raise InvalidRequestError("voice_id is 'None': check that the task that makes the voice has run.")
    return text


def parse_voice_name(name: object) -> str:
    """
    Return the name of a voice without surrounding white space.

    :raises InvalidRequestError: if it is missing or not a text
    """
    return parse_text("the name of the voice", to_text(name)).strip()


def validate_voice_choice(voice_id: object, voice_name: object) -> None:
    """
    Check that exactly one of both arguments is given.

    :raises InvalidRequestError: if both or neither are given
    """
    given = [value not in (None, "") for value in (voice_id, voice_name)]
    if all(given):
        raise InvalidRequestError("voice_id and voice_name are both given: nothing was submitted. Remove one of them.")
    if not any(given):
        raise InvalidRequestError(
            "voice_id is empty and voice_name is not given: nothing was submitted. Set one of them."
        )


def find_id(voice_id: str, voices: Iterable[Voice]) -> Voice | None:
    """Return the voice with this id; ``None`` if there is none."""
    wanted = parse_voice_id(voice_id)
    return next((voice for voice in voices if voice.voice_id == wanted), None)


def find_exact_name(name: str, voices: Iterable[Voice]) -> Voice | None:
    """
    Return the voice with exactly this name; ``None`` if there is none.

    :raises InvalidRequestError: if there are several
    """
    matches = [voice for voice in voices if voice.name == name]
    if len(matches) > 1:
        raise InvalidRequestError(
            f"{len(matches)} voices are named {quote_value(name)}: {format_voices(matches)}. Use the voice_id of "
            "one of them, or rename the others."
        )
    return matches[0] if matches else None


def get_by_name(name: str, voices: Sequence[Voice]) -> Voice:
    """
    Return the voice with exactly this name.

    :param voices: all voices of the account
    :raises InvalidRequestError: if no voice or several have the name; the message lists candidates with their ids
    """
    voice = find_exact_name(name, voices)
    if voice is None:
        raise make_unknown_name_error(name, voices)
    return voice


def choose_existing(name: str, voices: Sequence[Voice], if_exists: IfExists) -> Voice | None:
    """
    Return the voice to use in place of a new one; ``None`` if a new one is to be made.

    :param voices: clones, or designs, with this name
    :raises InvalidRequestError: if several could be reused, or one exists and ``if_exists`` is ``fail``
    """
    if not voices or if_exists is IfExists.CREATE:
        return None
    if if_exists is IfExists.FAIL:
        raise InvalidRequestError(
            f"The account has {format_voices(voices)} already: no voice was created. Choose another name, set "
            "if_exists='reuse', or delete it."
        )
    return find_exact_name(name, voices)


def make_unknown_name_error(name: str, voices: Sequence[Voice]) -> InvalidRequestError:
    """
    Return the error for a name that no voice has.

    :param voices: all voices of the account; those with similar names are listed
    """
    by_name: dict[str, list[Voice]] = {}
    for voice in voices:
        by_name.setdefault(voice.name.casefold(), []).append(voice)
    close = difflib.get_close_matches(name.casefold(), by_name, n=MAX_CANDIDATES, cutoff=0.5)
    candidates = [voice for each in close for voice in by_name[each]]
    hint = f"Similar: {format_voices(candidates)}." if candidates else "No voice has a similar name."
    return InvalidRequestError(
        f"None of the account's {len(voices)} voices is named {quote_value(name)}. {hint} Upper and lower case differ."
    )


def format_voices(voices: Sequence[Voice]) -> str:
    """Return names with ids, for an error; at most :data:`MAX_CANDIDATES`."""
    listed = [f"{quote_value(voice.name)} ({quote_value(voice.voice_id, 200)})" for voice in voices[:MAX_CANDIDATES]]
    more = len(voices) - len(listed)
    return ", ".join(listed) + (f" and {more} more" if more else "")


def _parse_field(name: str, value: object) -> object:
    match name:
        case "gender":
            return _parse_enum(Gender, value)
        case "age":
            return _parse_enum(Age, value)
        case "languages" | "labels" | "scenes":
            return _parse_texts(name, value)
        case _:
            return _parse_optional_text(name, value)


def _parse_enum(choices: type[StrEnum], value: object) -> str | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return parse_choice(choices, value.strip().lower() if isinstance(value, str) else value).value


def _parse_texts(name: str, value: object) -> list[str]:
    items = value.split(",") if isinstance(value, str) else value
    if items is None:
        return []
    if not isinstance(items, list | tuple | set | frozenset):
        raise InvalidRequestError(f"{name} must be a list of texts, not {quote_value(value)}.")
    ordered = sorted(items, key=str) if isinstance(items, set | frozenset) else items
    return [parse_text(name, to_text(item)).strip() for item in ordered if item is not None and str(item).strip()]


def _parse_optional_text(name: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return parse_text(name, to_text(value)).strip()


def _parse_trial_text(trial_text: object) -> str | None:
    text = _parse_optional_text("trial_text", trial_text)
    if text is not None and len(text) > MAX_TRIAL_CHARACTERS:
        raise InvalidRequestError(
            f"trial_text has {len(text)} characters, more than {MAX_TRIAL_CHARACTERS}: no voice was created. "
            "Shorten it."
        )
    return text


def _digest(*values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


def _read_text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _read_texts(value: object) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list):
        return ()
    return tuple(text for item in items if (text := _read_text(item)))
