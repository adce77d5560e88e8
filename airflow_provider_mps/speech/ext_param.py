"""Build and validate ``ExtParam``, the optional settings of a submit."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.redaction import quote_value
from airflow_provider_mps.speech.parsing import parse_text

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
"""The documented keys of each level."""


@dataclass(frozen=True)
class SpeechOptions:
    """
    The arguments that set parts of ``ExtParam``; a template may leave each of them empty.

    https://www.tencentcloud.com/document/product/1041/79693
    """

    ext_param: Mapping[str, Any] | str | None = None
    """The complete ``ExtParam``, as a dict or as JSON."""
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
        Return ``ExtParam`` as a validated dict; empty if no argument is given.

        :raises InvalidRequestError: if the API does not document a value, or a value is given twice
        """
        ext_param = parse_ext_param(self.ext_param)
        for name, path, parse in (
            ("sample_rate", ("synExt", "sampleRate"), parse_whole_number),
            ("pitch", ("synExt", "pitch"), parse_whole_number),
            ("target_duration", ("synExt", "duration"), parse_number),
            ("translate_to", ("transExt", "transInfo", "transDst"), _parse_word),
            ("translate_requirement", ("transExt", "transRequirement"), _parse_word),
        ):
            value = getattr(self, name)
            if value not in (None, "") and (parsed := parse(name, value)) is not None:
                _set_value(ext_param, path, parsed, name)
        validate_ext_param(ext_param)
        return ext_param


def parse_ext_param(ext_param: Mapping[str, Any] | str | None) -> ExtParam:
    """
    Return ``ExtParam`` as a new dict; empty if it is not given.

    :raises InvalidRequestError: if it is neither a dict nor a JSON object, or cannot be written as JSON
    """
    if ext_param is None or (isinstance(ext_param, str) and not ext_param.strip()):
        return {}
    if isinstance(ext_param, str):
        try:
            parsed = json.loads(ext_param, parse_constant=_reject_constant)
        except (ValueError, RecursionError) as error:
            raise InvalidRequestError(f"ext_param is not JSON ({error}). Give a dict, or a JSON object.") from error
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


def validate_ext_param(ext_param: ExtParam) -> None:
    """
    Check that the API documents every key and value.

    :raises InvalidRequestError: if it does not; the message names the key or value
    """
    for path, documented in _KEYS.items():
        level: Any = ext_param
        for name in path:
            level = level.get(name, {})
        where = ".".join(("ext_param", *path))
        if not isinstance(level, dict):
            raise InvalidRequestError(f"{where} must be an object, not {quote_value(level)}.")
        for name in level.keys() - documented:
            raise InvalidRequestError(
                f"{where} has the key {quote_value(name)}, which MPS does not document; the documented keys are "
                f"{', '.join(sorted(documented))}. Nothing was submitted."
            )
    synthesis = ext_param.get("synExt", {})
    if "sampleRate" in synthesis and synthesis["sampleRate"] not in SAMPLE_RATES:
        rates = ", ".join(map(str, SAMPLE_RATES))
        raise make_value_error("sample_rate", synthesis["sampleRate"], f"one of {rates} (Hz)")
    if "pitch" in synthesis and not (type(synthesis["pitch"]) is int and abs(synthesis["pitch"]) <= MAX_PITCH):
        raise make_value_error("pitch", synthesis["pitch"], f"a whole number from -{MAX_PITCH} to {MAX_PITCH}")
    if "duration" in synthesis and not _is_duration(synthesis["duration"]):
        raise make_value_error("target_duration", synthesis["duration"], "a number of seconds above 0")
    translation = ext_param.get("transExt", {})
    for name, value in (
        ("translate_to", translation.get("transInfo", {}).get("transDst")),
        ("translate_requirement", translation.get("transRequirement")),
    ):
        if value is not None and not isinstance(value, str):
            raise make_value_error(name, value, "a text")


def merge_ext_params(default: ExtParam, override: ExtParam) -> ExtParam:
    """Return a new dict in which each value of ``override`` takes precedence."""
    merged = dict(default)
    for name, value in override.items():
        known = merged.get(name)
        merged[name] = merge_ext_params(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def _set_value(ext_param: ExtParam, path: tuple[str, ...], value: object, name: str) -> None:
    level = ext_param
    for key in path[:-1]:
        level = level.setdefault(key, {})
        if not isinstance(level, dict):
            raise InvalidRequestError(f"ext_param.{key} must be an object, not {quote_value(level)}.")
    if path[-1] in level:
        raise InvalidRequestError(
            f"{name} is given twice, as an argument and as {'.'.join(path)} in ext_param. Remove one of them; "
            "nothing was submitted."
        )
    level[path[-1]] = value


def parse_whole_number(name: str, value: object) -> int | None:
    """
    Return a whole number that a template may have rendered as text; ``None`` for white space.

    :raises InvalidRequestError: if it is not a whole number
    """
    number = parse_number(name, value)
    if number is None:
        return None
    if number != int(number):
        raise make_value_error(name, value, "a whole number")
    return int(number)


def parse_number(name: str, value: Any) -> float | None:
    """
    Return a number that a template may have rendered as text; ``None`` for white space.

    :raises InvalidRequestError: if it is not a finite number
    """
    if isinstance(value, str) and not value.strip():
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise make_value_error(name, value, "a number")
    return number


def _parse_word(name: str, value: object) -> str | None:
    # A template may render to white space.
    return None if isinstance(value, str) and not value.strip() else parse_text(name, value).strip()


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def parse_flag(name: str, value: object) -> bool:
    """
    Return a flag that a template may have rendered as text; ``None`` and white space mean ``False``.

    :raises InvalidRequestError: if it is neither true nor false
    """
    if isinstance(value, bool):
        return value
    flags = {"": False, "none": False, "false": False, "true": True}
    text = "" if value is None else value
    if isinstance(text, str) and (flag := flags.get(text.strip().lower())) is not None:
        return flag
    raise make_value_error(name, value, "true or false")


def make_value_error(name: str, value: object, requirement: str) -> InvalidRequestError:
    """Make the error for an argument that does not meet a requirement, e.g. "a whole number"."""
    return InvalidRequestError(f"{name} must be {requirement}, not {quote_value(value)}. Nothing was submitted.")


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
