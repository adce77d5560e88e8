"""What is to be spoken, and how: checked before money is spent on it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_mps.errors import InvalidRequestError
from airflow_provider_mps.ext_param import check_ext_param
from airflow_provider_mps.redaction import quoted
from airflow_provider_mps.text_value import require_text, to_text

if TYPE_CHECKING:
    from airflow_provider_mps.ext_param import ExtParam


@dataclass(frozen=True)
class SpeechRequest:
    """
    A text that can be submitted.

    https://www.tencentcloud.com/document/product/1041/79693
    """

    text: str = field(repr=False)
    voice_id: str
    text_lang: str | None = None
    ext_param: ExtParam = field(default_factory=dict)

    @classmethod
    def checked(
        cls,
        text: object,
        voice_id: object,
        text_lang: object,
        ext_param: ExtParam,
        max_characters: int | None = None,
    ) -> SpeechRequest:
        """
        Check what costs money when it is submitted.

        :param max_characters: how many the text may have; MPS documents no limit
        :raises InvalidRequestError: when it cannot be sent, or should not be
        """
        check_ext_param(ext_param)
        spoken = require_text("text", to_text(text))
        if max_characters is not None and len(spoken) > max_characters:
            raise InvalidRequestError(
                f"text has {len(spoken)} characters, more than the {max_characters} of max_characters: nothing was "
                "submitted. Shorten it, or raise the limit."
            )
        language = text_lang if text_lang is None or text_lang == "" else require_text("text_lang", text_lang)
        return cls(spoken, require_text("voice_id", to_text(voice_id)), str(language or "") or None, ext_param)

    def fingerprint(self, *account: str | None) -> str:
        """
        Return what is the same only where the same is asked for, of the same account.

        :param account: the connection, and its region
        """
        asked = [self.text, self.voice_id, self.text_lang, self.ext_param, *account]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]


def require_limit(max_characters: int | str | None) -> int | None:
    """
    Return the argument ``max_characters``; ``None`` where there is no limit.

    :param max_characters: may be a text, where it comes from a template
    :raises InvalidRequestError: when it is no whole number above 0
    """
    if max_characters is None or max_characters == "":
        return None
    try:
        limit = 0 if isinstance(max_characters, bool) else int(max_characters)
    except (TypeError, ValueError, OverflowError):
        limit = 0
    if limit <= 0:
        raise InvalidRequestError(f"max_characters must be a whole number above 0, not {quoted(max_characters)}.")
    return limit
