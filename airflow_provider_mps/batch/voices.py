"""Look up the VoiceIds of the voice names in a batch."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.speech.voices import get_by_name

if TYPE_CHECKING:
    from airflow_provider_mps.batch.row import Row
    from airflow_provider_mps.hooks.mps import MpsHook
    from airflow_provider_mps.speech.request import SpeechRequest
    from airflow_provider_mps.speech.voices import Voice


class VoiceLookup:
    """
    Find the VoiceIds of names for the concurrent lines of one batch.

    It lists all voices once, because a query for each of many names would exceed the quota.
    """

    def __init__(self, hook: MpsHook) -> None:
        self._hook = hook
        self._lock = asyncio.Lock()
        """Other lines wait while one of them lists the voices."""
        self._voices: list[Voice] | None = None
        self._voice_ids: dict[str, str] = {}
        self._errors: dict[str, str] = {}
        """By name, why it has no VoiceId."""
        self._failure: Exception | None = None
        """Why the voices cannot be listed."""

    async def find_voice_id(self, name: str) -> str:
        """
        Return the VoiceId of the voice with exactly this name.

        :raises InvalidRequestError: if no voice or several have the name
        :raises Exception: what listing the voices has raised, e.g. an MpsApiError: it concerns all names
        """
        if name not in self._voice_ids and name not in self._errors:
            async with self._lock:
                voices = await self._list_voices()
            try:
                voice = get_by_name(name, voices)
            except InvalidRequestError as error:
                self._errors[name] = str(error)
            else:
                if name not in self._voice_ids:
                    self._hook.log.info("Voice %r has the VoiceId %s", name, voice.voice_id)
                self._voice_ids[name] = voice.voice_id
        if name in self._errors:
            raise InvalidRequestError(self._errors[name])
        return self._voice_ids[name]

    async def _list_voices(self) -> list[Voice]:
        if self._failure is not None:
            raise self._failure
        if self._voices is None:
            try:
                self._voices = await self._hook.alist_voices()
            except Exception as error:
                self._failure = error
                raise
        return self._voices


def use_earlier_voice(request: SpeechRequest, known: Row | None) -> SpeechRequest | None:
    """
    Return a request with the VoiceId that an earlier look-up of its ``voice_name`` returned, by the line's row.

    The row's fingerprint then shows whether anything else of the line has changed. The result is ``None`` if the row
    has no VoiceId.
    """
    return replace(request, voice_id=known.voice_id) if known is not None and known.voice_id else None
