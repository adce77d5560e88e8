"""A validated request for speech, before it is submitted and billed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.redaction import quote_value
from airflow_provider_mps.speech.ext_param import validate_ext_param
from airflow_provider_mps.speech.parsing import parse_text, to_text

if TYPE_CHECKING:
    from airflow_provider_mps.speech.ext_param import ExtParam


@dataclass(frozen=True)
class SpeechRequest:
    """
    A text that can be submitted.

    https://www.tencentcloud.com/document/product/1041/79693
    """

    text: str = field(repr=False)
    voice_id: str
    """Empty until ``voice_name`` has been looked up."""
    text_lang: str | None = None
    ext_param: ExtParam = field(default_factory=dict)
    voice_name: str | None = None
    """Name of the voice, if the caller gave it in place of the ``VoiceId``. It is not sent."""

    @classmethod
    def from_arguments(
        cls,
        text: object,
        voice_id: object,
        text_lang: object,
        ext_param: ExtParam,
        max_characters: int | None = None,
        *,
        text_source: str = "text",
        voice_name: object = None,
    ) -> SpeechRequest:
        """
        Validate the arguments of a submit, without looking up ``voice_name``.

        :param max_characters: the most characters that the text may have; MPS documents no limit
        :param text_source: the argument, or the file, that holds the text, for the error
        :param voice_name: name to look up; ``voice_id`` must then be empty
        :raises InvalidRequestError: if an argument is invalid, or the text is too long
        """
        validate_ext_param(ext_param)
        checked_text = parse_text(text_source, to_text(text))
        if max_characters is not None and len(checked_text) > max_characters:
            raise InvalidRequestError(
                f"{text_source} has {len(checked_text)} characters, more than max_characters ({max_characters}): "
                "nothing was submitted. Shorten it, or raise the limit."
            )
        language = parse_text("text_lang", text_lang) if text_lang not in (None, "") else None
        if voice_name in (None, ""):
            return cls(checked_text, parse_text("voice_id", to_text(voice_id)), language, ext_param)
        name = parse_text("voice_name", to_text(voice_name)).strip()
        return cls(checked_text, "", language, ext_param, name)

    def fingerprint(self, *account: str | None) -> str:
        """
        Return a digest that is equal only for the same request with the same connection id and region.

        :param account: the connection id and the region
        """
        values = [self.text, self.voice_id, self.text_lang, self.ext_param, *account]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


def hash_text(text: str) -> str:
    """Return a short digest of a text, which shows whether it has changed."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def parse_max_characters(max_characters: int | str | None) -> int | None:
    """
    Return the argument ``max_characters`` as a number; ``None`` means no limit.

    :raises InvalidRequestError: if it is not a whole number above 0
    """
    if max_characters is None or max_characters == "":
        return None
    try:
        limit = 0 if isinstance(max_characters, bool) else int(max_characters)
    except (TypeError, ValueError, OverflowError):
        limit = 0
    if limit <= 0:
        raise InvalidRequestError(f"max_characters must be a whole number above 0, not {quote_value(max_characters)}.")
    return limit
