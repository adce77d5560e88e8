"""The hook's methods about voices: list, find, clone, design, change and delete them."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from airflow_provider_mps.concurrency import run_in_daemon_thread
from airflow_provider_mps.error_codes import is_not_found
from airflow_provider_mps.exceptions import MpsPermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from typing import Unpack

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.api.actions import ApiCall
    from airflow_provider_mps.api.voice_actions import ClonedVoice
    from airflow_provider_mps.speech.task import VoiceDesignTask
    from airflow_provider_mps.speech.voices import CloneRequest, Voice, VoiceDesignRequest

T = TypeVar("T")


class VoiceFilters(TypedDict, total=False):
    """Filters of a list of voices; see :meth:`VoiceMethods.list_voices`."""

    gender: str | None
    age: str | None
    languages: Sequence[str] | str | None
    labels: Sequence[str] | str | None
    scenes: Sequence[str] | str | None


class VoiceFields(VoiceFilters, total=False):
    """Properties of a voice; see :meth:`VoiceMethods.clone_voice`."""

    description: str | None


class VoiceMethods:
    """The methods of :class:`~.hooks.mps.MpsHook` for voices; each has a coroutine with the prefix ``a``."""

    log: Any
    submit_attempt: Callable[[], AbstractContextManager[object]] = nullcontext
    """Makes a context manager around each request that MPS may bill or count; it receives the request's error."""

    if TYPE_CHECKING:

        def _call(self, call: ApiCall[T], attempt_context: Callable[[], AbstractContextManager[object]] = ...) -> T: ...

        async def _acall(self, call: ApiCall[T]) -> T: ...

    def list_voices(  # noqa: PLR0917 - the filters of the API
        self,
        voice_type: str = "all",
        name: str | None = None,
        gender: str | None = None,
        age: str | None = None,
        languages: Sequence[str] | str | None = None,
        labels: Sequence[str] | str | None = None,
        scenes: Sequence[str] | str | None = None,
    ) -> list[Voice]:
        """
        Return all voices that the account can use, or those that match all filters.

        https://www.tencentcloud.com/document/api/1041/79695

        :param voice_type: ``system`` (voices of Tencent), ``clone``, ``design`` or ``all``
        :param name: part of the name; see :meth:`find_voice` for an exact name
        :param gender: ``male``, ``female`` or ``unknown``
        :param age: ``child``, ``teenager``, ``youth``, ``middle_aged``, ``senior`` or ``unknown``
        :param languages: a list, or a text with commas, e.g. ``["en"]``
        :param labels: a list, or a text with commas
        :param scenes: a list, or a text with commas
        :raises InvalidRequestError: if an argument is invalid
        :raises MpsApiError: if MPS does not respond, or returns an error, after short retries
        """
        return self._list_voices(
            voice_type, name=name, gender=gender, age=age, languages=languages, labels=labels, scenes=scenes
        )

    async def alist_voices(
        self, voice_type: str = "all", name: str | None = None, **filters: Unpack[VoiceFilters]
    ) -> list[Voice]:
        """Do :meth:`list_voices` in an event loop."""
        return await self._alist_voices(voice_type, name=name, **filters)

    def get_voice(self, voice_id: str) -> Voice | None:
        """
        Return the voice with an id; ``None`` if the account has none.

        https://www.tencentcloud.com/document/api/1041/79695

        :raises InvalidRequestError: if the argument is not a VoiceId
        :raises MpsApiError: if MPS does not respond, or returns an error, after short retries
        """
        from airflow_provider_mps.speech.voices import find_id

        try:
            return find_id(voice_id, self._list_voices(voice_id=voice_id))
        except MpsPermanentError as error:
            if not is_not_found(error.code):
                raise
            return None

    async def aget_voice(self, voice_id: str) -> Voice | None:
        """Do :meth:`get_voice` in an event loop."""
        from airflow_provider_mps.speech.voices import find_id

        try:
            return find_id(voice_id, await self._alist_voices(voice_id=voice_id))
        except MpsPermanentError as error:
            if not is_not_found(error.code):
                raise
            return None

    def find_voice(self, name: str) -> Voice:
        """
        Return the voice with exactly this name.

        https://www.tencentcloud.com/document/api/1041/79695

        :raises InvalidRequestError: if no voice or several have the name; the message lists candidates with their ids
        :raises MpsApiError: if MPS does not respond, or returns an error, after short retries
        """
        from airflow_provider_mps.speech.voices import find_exact_name, make_unknown_name_error, parse_voice_name

        exact = parse_voice_name(name)
        voice = find_exact_name(exact, self._list_voices(name=exact))
        if voice is None:
            raise make_unknown_name_error(exact, self._list_voices())
        self.log.info("Voice %r has the VoiceId %s", exact, voice.voice_id)
        return voice

    async def afind_voice(self, name: str) -> Voice:
        """Do :meth:`find_voice` in an event loop."""
        from airflow_provider_mps.speech.voices import find_exact_name, make_unknown_name_error, parse_voice_name

        exact = parse_voice_name(name)
        voice = find_exact_name(exact, await self._alist_voices(name=exact))
        if voice is None:
            raise make_unknown_name_error(exact, await self._alist_voices())
        self.log.info("Voice %r has the VoiceId %s", exact, voice.voice_id)
        return voice

    def clone_voice(
        self,
        audio: bytes | str | ObjectStoragePath,
        name: str,
        *,
        audio_lang: str | None = None,
        description: str | None = None,
        gender: str | None = None,
        age: str | None = None,
        languages: Sequence[str] | str | None = None,
        labels: Sequence[str] | str | None = None,
        scenes: Sequence[str] | str | None = None,
        trial_text: str | None = None,
    ) -> str:
        """
        Clone a voice from a sample. An account holds 100 cloned and designed voices by default.

        https://www.tencentcloud.com/document/api/1041/82312

        The hook retries the request only if MPS provably did not make the voice.

        :param audio: 10 to 20 seconds of one speaker: bytes, an ``ObjectStoragePath`` or its text form (each at most
            7 MiB), or an http(s) URL from which MPS downloads the sample
        :param name: name of the voice; MPS does not reject one that another voice has
        :param audio_lang: language of the sample, e.g. ``en``; default of MPS: Chinese
        :param description: free text
        :param gender: ``male``, ``female`` or ``unknown``
        :param age: ``child``, ``teenager``, ``youth``, ``middle_aged``, ``senior`` or ``unknown``
        :param languages: languages of the voice: a list, or a text with commas
        :param labels: a list, or a text with commas
        :param scenes: a list, or a text with commas
        :param trial_text: text of at most 500 characters that the new voice speaks as a trial
        :return: the ``VoiceId``
        :raises InvalidRequestError: if an argument is invalid, e.g. the sample is not audio or too large
        :raises MpsApiError: if MPS rejects the request, or the outcome is unknown; see its ``error_class``
        """
        request = make_clone_request(
            audio,
            name,
            audio_lang,
            trial_text,
            description=description,
            gender=gender,
            age=age,
            languages=languages,
            labels=labels,
            scenes=scenes,
        )
        return self.create_clone(request).voice_id

    async def aclone_voice(
        self,
        audio: bytes | str | ObjectStoragePath,
        name: str,
        *,
        audio_lang: str | None = None,
        trial_text: str | None = None,
        **fields: Unpack[VoiceFields],
    ) -> str:
        """Do :meth:`clone_voice` in an event loop."""
        from airflow_provider_mps.api.voice_actions import make_clone_call

        request = await run_in_daemon_thread(lambda: make_clone_request(audio, name, audio_lang, trial_text, **fields))
        voice = await self._acall(make_clone_call(request))
        self.log.info("MPS made voice %s (RequestId %s)", voice.voice_id, voice.request_id)
        return voice.voice_id

    def create_clone(self, request: CloneRequest) -> ClonedVoice:
        """Do :meth:`clone_voice` for a validated request, and return the URL of the trial audio, too."""
        from airflow_provider_mps.api.voice_actions import make_clone_call

        voice = self._call(make_clone_call(request), self.submit_attempt)
        self.log.info("MPS made voice %s (RequestId %s)", voice.voice_id, voice.request_id)
        return voice

    def submit_voice_design(
        self,
        prompt: str,
        name: str,
        *,
        description: str | None = None,
        gender: str | None = None,
        age: str | None = None,
        languages: Sequence[str] | str | None = None,
        labels: Sequence[str] | str | None = None,
        scenes: Sequence[str] | str | None = None,
        trial_text: str | None = None,
    ) -> str:
        """
        Submit the description of a voice to design. An account holds 100 cloned and designed voices by default.

        https://www.tencentcloud.com/document/api/1041/79694

        The hook retries the request only if MPS provably did not accept it.

        :param prompt: what the voice sounds like, e.g. ``A deep, calm male voice for documentaries``
        :param name: name of the voice; MPS does not reject one that another voice has
        :param description: free text
        :param gender: ``male``, ``female`` or ``unknown``
        :param age: ``child``, ``teenager``, ``youth``, ``middle_aged``, ``senior`` or ``unknown``
        :param languages: languages of the voice: a list, or a text with commas
        :param labels: a list, or a text with commas
        :param scenes: a list, or a text with commas
        :param trial_text: text of at most 500 characters that the new voice speaks as a trial
        :return: the ``TaskId``, for :meth:`describe_voice_design`
        :raises InvalidRequestError: if an argument is invalid
        :raises MpsApiError: if MPS rejects the request, or the outcome is unknown; see its ``error_class``
        """
        from airflow_provider_mps.speech.voices import VoiceDesignRequest

        request = VoiceDesignRequest.from_arguments(
            prompt,
            name,
            trial_text,
            description=description,
            gender=gender,
            age=age,
            languages=languages,
            labels=labels,
            scenes=scenes,
        )
        return self.submit_design(request)

    async def asubmit_voice_design(
        self,
        prompt: str,
        name: str,
        *,
        trial_text: str | None = None,
        **fields: Unpack[VoiceFields],
    ) -> str:
        """Do :meth:`submit_voice_design` in an event loop."""
        from airflow_provider_mps.api.voice_actions import make_submit_design_call
        from airflow_provider_mps.speech.voices import VoiceDesignRequest

        request = VoiceDesignRequest.from_arguments(prompt, name, trial_text, **fields)
        result = await self._acall(make_submit_design_call(request))
        self.log.info("MPS accepted task %s (RequestId %s)", result.task_id, result.request_id)
        return result.task_id

    def submit_design(self, request: VoiceDesignRequest) -> str:
        """Do :meth:`submit_voice_design` for a validated request."""
        from airflow_provider_mps.api.voice_actions import make_submit_design_call

        result = self._call(make_submit_design_call(request), self.submit_attempt)
        self.log.info("MPS accepted task %s (RequestId %s)", result.task_id, result.request_id)
        return result.task_id

    def describe_voice_design(self, mps_task_id: str) -> VoiceDesignTask:
        """
        Query the design of a voice.

        https://www.tencentcloud.com/document/api/1041/79694

        :param mps_task_id: the ``TaskId`` that :meth:`submit_voice_design` returned
        :return: the current state of the task; with the status ``success`` it has the ``voice_id``
        :raises MpsApiError: if MPS does not respond, or returns an error, after short retries
        """
        from airflow_provider_mps.api.voice_actions import make_describe_design_call

        return self._call(make_describe_design_call(mps_task_id))

    async def adescribe_voice_design(self, mps_task_id: str) -> VoiceDesignTask:
        """Do :meth:`describe_voice_design` in an event loop."""
        from airflow_provider_mps.api.voice_actions import make_describe_design_call

        return await self._acall(make_describe_design_call(mps_task_id))

    def update_voice(self, voice_id: str, **fields: Any) -> Voice:
        """
        Change properties of a cloned or designed voice; empty values change nothing.

        https://www.tencentcloud.com/document/api/1041/79695

        :param voice_id: the voice
        :param fields: ``name``, ``description``, ``gender``, ``age``, ``languages``, ``labels`` or ``scenes``; see
            :meth:`clone_voice`
        :return: the voice as MPS describes it afterwards
        :raises InvalidRequestError: if an argument is invalid, or there is nothing to change
        :raises MpsApiError: if MPS does not respond, or returns an error, after short retries
        """
        from airflow_provider_mps.api.voice_actions import make_update_call

        return self._call(make_update_call(voice_id, **fields))

    async def aupdate_voice(self, voice_id: str, **fields: Any) -> Voice:
        """Do :meth:`update_voice` in an event loop."""
        from airflow_provider_mps.api.voice_actions import make_update_call

        return await self._acall(make_update_call(voice_id, **fields))

    def delete_voice(self, voice_id: str) -> None:
        """
        Delete a cloned or designed voice.

        https://www.tencentcloud.com/document/api/1041/79695

        :raises InvalidRequestError: if the argument is not a VoiceId
        :raises MpsApiError: if MPS does not respond, or returns an error, e.g. because there is no such voice
        """
        from airflow_provider_mps.api.voice_actions import make_delete_call

        self._call(make_delete_call(voice_id))

    async def adelete_voice(self, voice_id: str) -> None:
        """Do :meth:`delete_voice` in an event loop."""
        from airflow_provider_mps.api.voice_actions import make_delete_call

        await self._acall(make_delete_call(voice_id))

    def _list_voices(self, voice_type: str = "all", voice_id: str | None = None, **filters: Any) -> list[Voice]:
        from airflow_provider_mps.api.voice_actions import VoiceListing

        listing = VoiceListing(voice_type, voice_id, **filters)
        while (call := listing.next_call()) is not None:
            listing.add(self._call(call))
        return listing.voices

    async def _alist_voices(self, voice_type: str = "all", voice_id: str | None = None, **filters: Any) -> list[Voice]:
        from airflow_provider_mps.api.voice_actions import VoiceListing

        listing = VoiceListing(voice_type, voice_id, **filters)
        while (call := listing.next_call()) is not None:
            listing.add(await self._acall(call))
        return listing.voices


def make_clone_request(
    audio: Any, name: object, audio_lang: object, trial_text: object, **fields: object
) -> CloneRequest:
    """
    Validate the arguments of a clone, and read the sample.

    :param fields: of the voice; see :meth:`VoiceMethods.clone_voice`
    :raises InvalidRequestError: if an argument is invalid, e.g. the sample is not audio or too large
    :raises AirflowException: if the sample cannot be read this time
    """
    from airflow_provider_mps.exceptions import InvalidRequestError
    from airflow_provider_mps.redaction import format_path, quote_value
    from airflow_provider_mps.speech.audio_sample import MAX_SAMPLE_BYTES, AudioSample, is_url
    from airflow_provider_mps.speech.voices import CloneRequest
    from airflow_provider_mps.storage.text_file import read_file

    # Validated first: reading the sample may take a while.
    request = CloneRequest.from_arguments(AudioSample(), name, audio_lang, trial_text, **fields)
    if isinstance(audio, bytes | bytearray):
        sample = AudioSample.from_bytes(bytes(audio))
    elif is_url(str(audio)):
        sample = AudioSample(url=str(audio).strip())
    elif isinstance(audio, str) and not audio.strip():
        raise InvalidRequestError("audio is empty: no voice was created.")
    elif isinstance(audio, str) or hasattr(audio, "as_uri"):
        source = f"audio {format_path(audio)}"
        sample = AudioSample.from_bytes(read_file(audio, source, MAX_SAMPLE_BYTES), source)
    else:
        raise InvalidRequestError(
            f"audio must be bytes, an ObjectStoragePath or an http(s) URL, not {quote_value(audio)}: no voice was "
            "created."
        )
    return replace(request, sample=sample)
