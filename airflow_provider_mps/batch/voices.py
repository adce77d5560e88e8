"""Look up the VoiceIds of the voice names in a batch, each name once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_mps.exceptions import InvalidRequestError

if TYPE_CHECKING:
    from airflow_provider_mps.batch.row import Row
    from airflow_provider_mps.hooks.mps import MpsHook
    from airflow_provider_mps.speech.request import SpeechRequest


class VoiceLookup:
    """Find the VoiceIds of names for the concurrent lines of one batch."""

    def __init__(self, hook: MpsHook) -> None:
        self._hook = hook
        self._lock = asyncio.Lock()
        """One look-up at a time: other lines with its name wait for it, and the rate stays below the quota."""
        self._voice_ids: dict[str, str] = {}
        self._errors: dict[str, str] = {}
        """By name, why it has no VoiceId."""
        self._failure: Exception | None = None
        """Why no name can be looked up."""

    async def find_voice_id(self, name: str) -> str:
        """
        Return the VoiceId of the voice with exactly this name.

        :raises InvalidRequestError: if no voice or several have the name
        :raises Exception: what a look-up has raised for another reason, e.g. an MpsApiError: it concerns all names
        """
        if not self._is_known(name):  # a known name does not wait for the look-ups of others
            async with self._lock:
                if not self._is_known(name):
                    await self._find_voice(name)
        if name in self._errors:
            raise InvalidRequestError(self._errors[name])
        return self._voice_ids[name]

    def _is_known(self, name: str) -> bool:
        return name in self._voice_ids or name in self._errors

    async def _find_voice(self, name: str) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            voice = await self._hook.afind_voice(name)
        except InvalidRequestError as error:
            self._errors[name] = str(error)
        except Exception as error:
            self._failure = error
            raise
        else:
            self._voice_ids[name] = voice.voice_id


def use_earlier_voice(request: SpeechRequest, known: Row | None) -> SpeechRequest | None:
    """
    Return a request with the VoiceId that an earlier look-up of its ``voice_name`` returned, by the line's row.

    The row's fingerprint then shows whether anything else of the line has changed. The result is ``None`` if the row
    has no VoiceId.
    """
    return replace(request, voice_id=known.voice_id) if known is not None and known.voice_id else None
