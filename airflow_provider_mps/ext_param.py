"""``ExtParam`` of a submit: built from plain arguments, and checked before anything is paid."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from airflow_provider_mps.errors import InvalidRequestError
from airflow_provider_mps.redaction import quoted
from airflow_provider_mps.text_value import require_characters

ExtParam: TypeAlias = dict[str, Any]

SAMPLE_RATES = (8000, 16000, 22050, 32000, 44100)
"""Hz."""
MAX_PITCH = 12
_KEYS = {
    (): {"synExt", "transExt"},
    ("synExt",): {"duration", "sampleRate", "pitch"},
    ("transExt",): {"transInfo", "transRequirement"},
    ("transExt", "transInfo"): {"transDst"},
}
"""What the API documents, level by level."""


@dataclass(frozen=True)
class SpeechOptions:
    """
    The arguments that stand for parts of ``ExtParam``; each may be ``None`` or, from a template, empty.

    https://www.tencentcloud.com/document/product/1041/79693
    """

    ext_param: Mapping[str, Any] | str | None = None
    """The whole, as a dict or its JSON."""
    sample_rate: int | str | None = None
    """``synExt.sampleRate``, in Hz."""
    pitch: int | str | None = None
    """``synExt.pitch``, from -12 to 12."""
    target_duration: float | str | None = None
    """``synExt.duration``, in seconds."""
    translate_to: str | None = None
    """``transExt.transInfo.transDst``, e.g. ``en``."""
    translate_requirement: str | None = None
    """``transExt.transRequirement``."""

    def build(self) -> ExtParam:
        """
        Return ``ExtParam`` as an object, checked; empty where nothing is asked for.

        :raises InvalidRequestError: when an argument is none that the API documents, or the same is given twice
        """
        built = parse_ext_param(self.ext_param)
        for name, path, value in (
            ("sample_rate", ("synExt", "sampleRate"), _whole_number("sample_rate", self.sample_rate)),
            ("pitch", ("synExt", "pitch"), _whole_number("pitch", self.pitch)),
            ("target_duration", ("synExt", "duration"), _number("target_duration", self.target_duration)),
            ("translate_to", ("transExt", "transInfo", "transDst"), _word("translate_to", self.translate_to)),
            (
                "translate_requirement",
                ("transExt", "transRequirement"),
                _word("translate_requirement", self.translate_requirement),
            ),
        ):
            if value is not None:
                _put(built, path, value, name)
        check_ext_param(built)
        return built


def parse_ext_param(ext_param: Mapping[str, Any] | str | None) -> ExtParam:
    """
    Return ``ExtParam`` as an object of its own; empty where nothing is asked for.

    :param ext_param: a mapping, or the JSON of an object
    :raises InvalidRequestError: when it is neither, or cannot be written as JSON
    """
    if ext_param is None or (isinstance(ext_param, str) and not ext_param.strip()):
        return {}
    if isinstance(ext_param, str):
        try:
            parsed = json.loads(ext_param, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise InvalidRequestError(
                f"ext_param is not JSON ({error}). Give a dict, or the JSON of an object."
            ) from error
        if not isinstance(parsed, dict):
            raise InvalidRequestError(f"ext_param must be a JSON object, not {type(parsed).__name__}.")
        return parsed
    if not isinstance(ext_param, Mapping):
        raise InvalidRequestError(f"ext_param must be a dict or a JSON string, not {type(ext_param).__name__}.")
    try:
        copied: ExtParam = json.loads(json.dumps(dict(ext_param), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"ext_param cannot be written as JSON: {error}.") from error
    return copied


def check_ext_param(ext_param: ExtParam) -> None:
    """
    Return where the API documents everything that is asked for.

    :raises InvalidRequestError: which names what it does not
    """
    for path, known in _KEYS.items():
        level: Any = ext_param
        for name in path:
            level = level.get(name, {})
        where = ".".join(("ext_param", *path))
        if not isinstance(level, dict):
            raise InvalidRequestError(f"{where} must be an object, not {quoted(level)}.")
        for name in level.keys() - known:
            raise InvalidRequestError(
                f"{where} has the key {quoted(name)}, which MPS does not document: it knows {', '.join(sorted(known))}."
                " Nothing was submitted."
            )
    spoken = ext_param.get("synExt", {})
    if "sampleRate" in spoken and (_is_flag(spoken["sampleRate"]) or spoken["sampleRate"] not in SAMPLE_RATES):
        raise _refused("sample_rate", spoken["sampleRate"], f"one of {', '.join(map(str, SAMPLE_RATES))} (Hz)")
    if "pitch" in spoken and not (type(spoken["pitch"]) is int and abs(spoken["pitch"]) <= MAX_PITCH):
        raise _refused("pitch", spoken["pitch"], f"a whole number from -{MAX_PITCH} to {MAX_PITCH}")
    if "duration" in spoken and not _is_duration(spoken["duration"]):
        raise _refused("target_duration", spoken["duration"], "a number of seconds above 0")
    translated = ext_param.get("transExt", {})
    for name, value in (
        ("translate_to", translated.get("transInfo", {}).get("transDst")),
        ("translate_requirement", translated.get("transRequirement")),
    ):
        if value is not None and not isinstance(value, str):
            raise _refused(name, value, "a text")


def merged(default: ExtParam, particular: ExtParam) -> ExtParam:
    """Return both, where what is particular goes before the default, value by value."""
    result = dict(default)
    for name, value in particular.items():
        known = result.get(name)
        result[name] = merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return result


def _put(built: ExtParam, path: tuple[str, ...], value: object, name: str) -> None:
    level = built
    for key in path[:-1]:
        level = level.setdefault(key, {})
        if not isinstance(level, dict):
            raise InvalidRequestError(f"ext_param.{key} must be an object, not {quoted(level)}.")
    if path[-1] in level:
        raise InvalidRequestError(
            f"{name} is given twice, as an argument and as {'.'.join(path)} in ext_param. Leave one of them out; "
            "nothing was submitted."
        )
    level[path[-1]] = value


def _whole_number(name: str, value: object) -> int | None:
    number = _number(name, value)
    if number is None:
        return None
    if number != int(number):
        raise _refused(name, value, "a whole number")
    return int(number)


def _number(name: str, value: object) -> float | None:
    """Read a number that a template may have made a text of."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = math.nan if _is_flag(value) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise _refused(name, value, "a number")
    return number


def _word(name: str, value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not value.strip():
        raise _refused(name, value, "a text")
    require_characters(name, value)
    return value.strip()


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and not _is_flag(value) and 0 < value < math.inf


def _refused(name: str, value: object, wanted: str) -> InvalidRequestError:
    return InvalidRequestError(f"{name} must be {wanted}, not {quoted(value)}. Nothing was submitted.")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
