"""Speak a short text in one synchronous call, and store its audio in object storage."""

from __future__ import annotations

import io
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow_provider_mps.exceptions import AudioTransferError, DestinationError, InvalidRequestError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.links.text_to_speech import StoredObjectLink, SynthesisPageLink
from airflow_provider_mps.operators.store import StoreOperator
from airflow_provider_mps.redaction import format_path
from airflow_provider_mps.speech.parsing import OnUnknown, parse_choice
from airflow_provider_mps.storage.deadline import (
    DEFAULT_TRANSFER_TIMEOUT_SECONDS,
    Deadline,
    TransferCancellation,
    parse_timeout,
)
from airflow_provider_mps.storage.destination import is_folder, parse_destination, resolve_destination
from airflow_provider_mps.storage.if_exists import IfExists, ensure_absent, find_existing_file
from airflow_provider_mps.storage.text_file import parse_path, read_text, validate_text_source
from airflow_provider_mps.version_compat import make_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_mps.durable.synthesis import DurableSynthesis
    from airflow_provider_mps.speech.synthesis import AudioFormat, SynthesisRequest, SynthesizedSpeech
    from airflow_provider_mps.storage.transfer import StoredAudio

_CONTENT_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg"}


class TextToSpeechSynthesizeOperator(StoreOperator):
    """
    Speak a short text in one call, and store its audio in object storage.

    MPS makes the audio while the call waits: there is no task to wait for, and the audio can be MP3 or have 24 kHz. For
    long texts and translations, use :class:`~.TextToSpeechOperator`. All arguments and the destination are checked
    before the call. https://cloud.tencent.com/document/product/862/135348

    MPS bills each accepted call, so it is retried only if MPS provably did not accept it. From Airflow 3.3, the URL of
    the audio is stored at once: a retry or a clear within 24 hours stores the audio from there. If an attempt is killed
    during the call, the outcome is unknown: ``on_unknown`` says what happens then.

    The operator returns the stored path and pushes the XComs ``VoiceId`` and ``duration`` (seconds; ``None`` if MPS
    does not report it). Its outlets get the events of :class:`~.TextToSpeechToObjectStorageOperator`.

    :param text: text to speak (templated)
    :param text_path: UTF-8 file to speak in place of ``text``, as an ``ObjectStoragePath`` or a string (templated)
    :param voice_id: ``VoiceId`` of the voice (templated)
    :param voice_name: exact name of the voice, in place of ``voice_id``; looked up in each attempt (templated)
    :param destination: an ``ObjectStoragePath`` or a string, e.g. ``s3://conn@bucket/clip.mp3``; a string that ends in
        ``/`` is a folder, in which the file gets the name that MPS gave the audio (templated)
    :param text_lang: language of the text, e.g. ``en``; without it, MPS detects the language (templated)
    :param audio_format: ``wav`` or ``mp3`` (templated)
    :param sample_rate: sample rate in Hz: 8000, 16000, 22050, 24000, 32000 or 44100; without it, MPS chooses
        (templated)
    :param target_duration: length of the audio in seconds (templated)
    :param max_characters: maximum length of the text; a longer one fails before it is billed (templated)
    :param output_type: ``url``: download the audio from MPS's storage; a retry continues there. ``data``: take the
        audio from the response, up to 12 MiB, if the worker cannot reach that storage; a retry does not have it, but
        recognizes it at the destination
    :param if_exists: ``overwrite``; ``skip`` the transfer if the file is the same audio, which MPS has billed already;
        or ``fail``, before the call; a retry keeps the file if it is the same audio
    :param on_unknown: if it is unknown whether MPS has spoken the text, or its audio is lost: ``fail`` without a retry,
        or ``resubmit`` in the next attempt, which may be billed twice
    :param durable: ``False``: keep no record, so that each attempt and each clear speaks the text again. A failure
        after the call is then not retried
    :param transfer_timeout: seconds for storing the audio, including its attempts
    :param partition_key: partition of the event of each ``Asset`` in ``outlets``, from Airflow 3.3 (templated)
    :param mps_conn_id: connection of type ``tencent_mps`` (templated)
    :param region: overrides the connection's region (templated)
    :raises InvalidRequestError: if an argument is invalid; nothing was spoken; not retried
    :raises DestinationError: if the destination must be fixed first; not retried
    :raises MpsApiError: if MPS did not speak the text
    :raises AirflowFailException: if the outcome is unknown, or the audio is lost; with ``on_unknown="resubmit"`` an
        ``AirflowException``, which Airflow retries
    :raises AudioTransferError: if the audio could not be stored this time; a retry stores it
    """

    template_fields: Sequence[str] = (
        "text",
        "text_path",
        "voice_id",
        "voice_name",
        "destination",
        "text_lang",
        "audio_format",
        "sample_rate",
        "target_duration",
        "max_characters",
        "partition_key",
        "mps_conn_id",
        "region",
    )
    operator_extra_links = (StoredObjectLink(), SynthesisPageLink())

    def __init__(
        self,
        *,
        destination: str | ObjectStoragePath,
        text: str | None = None,
        voice_id: str | None = None,
        voice_name: str | None = None,
        text_path: str | ObjectStoragePath | None = None,
        text_lang: str | None = None,
        audio_format: str = "wav",
        sample_rate: int | str | None = None,
        target_duration: float | str | None = None,
        max_characters: int | str | None = None,
        output_type: Literal["url", "data"] = "url",
        if_exists: Literal["overwrite", "skip", "fail"] = "overwrite",
        on_unknown: Literal["fail", "resubmit"] = "fail",
        durable: bool = True,
        transfer_timeout: float = DEFAULT_TRANSFER_TIMEOUT_SECONDS,
        partition_key: str | None = None,
        mps_conn_id: str = MpsHook.default_conn_name,
        region: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.text = text
        self.text_path = text_path
        self.voice_id = voice_id
        self.voice_name = voice_name
        self.destination = destination
        self.text_lang = text_lang
        self.audio_format = audio_format
        self.sample_rate = sample_rate
        self.target_duration = target_duration
        self.max_characters = max_characters
        self.output_type = output_type
        self.if_exists = parse_choice(IfExists, if_exists)
        self.on_unknown = parse_choice(OnUnknown, on_unknown)
        self.durable = durable
        self.transfer_timeout = transfer_timeout
        self.partition_key = partition_key
        self.mps_conn_id = mps_conn_id
        self.region = region
        self._synthesis: DurableSynthesis | None = None
        self._is_retry = False
        self._is_url_rejected = False

    def execute(self, context: Context) -> str:
        """Speak the text, or find the audio of an earlier attempt; store it, and return the stored path."""
        from airflow_provider_mps.durable.synthesis import DurableSynthesis
        from airflow_provider_mps.storage.asset_events import parse_partition_key

        self._cancellation = TransferCancellation()
        timeout = parse_timeout(self.transfer_timeout)
        destination = parse_destination(self.destination)
        parse_partition_key(self.partition_key, self.outlets)
        synthesis = self._synthesis = DurableSynthesis(
            self.hook, context, self.on_unknown, self.log, durable=self.durable
        )
        if self.durable and not synthesis.has_store:
            self.log.info(
                "This Airflow has no task state store, which needs 3.3 or later: a retry or a clear may speak again"
            )
        with synthesis.prevent_double_billing():
            request = self._make_request()
            path = self._validate_destination(destination, request)
            request = synthesis.find_voice(request)
            speech = synthesis.find_earlier(request, partial(self._has_stored, path))
            # The file that exists may be the one that the earlier attempt of this text has stored.
            self._is_retry = speech is not None and not synthesis.was_cleared
            if speech is None:
                if self.if_exists is IfExists.FAIL and not is_folder(destination):
                    ensure_absent(path, "this text", lambda: None)  # before the call, which MPS bills
                speech = synthesis.speak(request)
            try:
                path, audio = self._store(speech, destination, request.audio_format, timeout)
            except _ExpiredUrlError:
                self.log.warning("The URL of the earlier audio is not valid any more: speaking the text again")
                speech = synthesis.speak(request)
                path, audio = self._store(speech, destination, request.audio_format, timeout)
            return self.finish(
                context,
                path,
                audio,
                source=speech.audio_url or self._get_api_url(),
                voice_id=request.voice_id,
                duration=speech.duration,
                text_path=parse_path(self.text_path) if self.text_path else None,
            )

    def on_kill(self) -> None:
        """Send no further request, cancel a transfer from a URL, and discard the uploaded parts."""
        if self._synthesis is not None:
            self._synthesis.cancel()
            if self._synthesis.has_pending_request:
                self.log.warning("The text was sent to MPS, which may bill it")
        super().on_kill()

    def _make_request(self) -> SynthesisRequest:
        from airflow_provider_mps.speech.request import parse_max_characters
        from airflow_provider_mps.speech.synthesis import SynthesisRequest
        from airflow_provider_mps.speech.voices import validate_voice_choice

        validate_text_source(self.text, self.text_path)
        validate_voice_choice(self.voice_id, self.voice_name)
        return SynthesisRequest.from_options(
            read_text(self.text_path) if self.text_path else self.text,
            self.voice_id,
            self.text_lang,
            audio_format=self.audio_format,
            sample_rate=self.sample_rate,
            target_duration=self.target_duration,
            output_type=self.output_type,
            max_characters=parse_max_characters(self.max_characters),
            text_source=f"text_path {format_path(self.text_path)}" if self.text_path else "text",
            voice_name=self.voice_name,
        )

    def _validate_destination(
        self, destination: str | ObjectStoragePath, request: SynthesisRequest
    ) -> ObjectStoragePath:
        """Check what can be checked before the call, and return the path; in a folder, with a provisional name."""
        from airflow_provider_mps.speech.synthesis import AudioFormat, OutputType
        from airflow_provider_mps.storage.asset_events import validate_asset_outlets
        from airflow_provider_mps.storage.transfer import validate_destination

        if is_folder(destination) and request.output_type is OutputType.DATA:
            raise InvalidRequestError(
                f"destination {format_path(destination)} is a folder, but with output_type='data' the audio has no "
                "name: nothing was spoken. Set the path of a file."
            )
        suffix = "" if is_folder(destination) else str(destination).rpartition(".")[2].lower()
        if suffix in set(AudioFormat) and suffix != request.audio_format:
            raise InvalidRequestError(
                f"destination {format_path(destination)} ends in .{suffix}, but audio_format is "
                f"{request.audio_format.value!r}: nothing was spoken. Change one of them."
            )
        # The name of a file in a folder is known only after the call: check a name that cannot exist yet.
        path = resolve_destination(destination, f"https://mps/audio.{request.audio_format.value}", "this text")
        validate_asset_outlets(self.outlets, make_uri(path), "this text")
        # Whether it exists is checked only if the text is spoken.
        validate_destination(path, IfExists.OVERWRITE, "this text")
        return path

    def _has_stored(self, path: ObjectStoragePath, size: int, crc64: int) -> bool:
        """Return whether an earlier attempt, which could not record it, has stored its audio."""
        from airflow_provider_mps.storage.http_response import AudioMetadata

        assert self._synthesis is not None  # noqa: S101 - it calls this
        if is_folder(str(self.destination)) or (self.if_exists is IfExists.FAIL and self._synthesis.was_cleared):
            return False
        try:
            existing = find_existing_file(path, IfExists.SKIP, "this text", lambda: None)
            return existing.is_audio_of(AudioMetadata(size, crc64))
        except DestinationError as error:  # e.g. the permission to write does not allow reading
            self.log.warning("Whether an earlier attempt has stored the audio could not be checked: %s", error)
            return False

    def _get_api_url(self) -> str:
        connection = self.hook.get_conn().connection
        return f"{connection.scheme}://{connection.endpoint}/TextToSpeech"

    def _store(
        self,
        speech: SynthesizedSpeech,
        destination: str | ObjectStoragePath,
        audio_format: AudioFormat,
        timeout: float,
    ) -> tuple[ObjectStoragePath, StoredAudio]:
        from airflow_provider_mps.storage.transfer import StoredAudio, store_audio

        assert self._synthesis is not None  # noqa: S101 - it has returned the speech
        subject = f"the text with RequestId {speech.request_id}"
        # If MPS returns the audio although its URL was requested, a folder has no other name for it.
        name = f"https://mps/{speech.request_id}.{audio_format.value}"
        path = resolve_destination(destination, speech.audio_url or name, subject)
        if speech.audio_data is not None:
            # Also if Airflow ends the attempt meanwhile: a retry would not have the audio.
            return path, self._store_data(speech.audio_data, path, subject, audio_format, timeout)
        if speech.audio_url is None:
            assert self._synthesis.checksum is not None  # noqa: S101 - the stored audio was found by it
            return path, StoredAudio(*self._synthesis.checksum, is_kept=True)
        url, deadline = speech.audio_url, Deadline(timeout, subject)

        def store(attempt: int) -> StoredAudio:
            return store_audio(
                url,
                path,
                if_exists=self.if_exists,
                get_fresh_url=lambda: self._raise_expired(subject),
                subject=subject,
                log=self.log,
                deadline=deadline,
                is_retry=self._is_retry or attempt > 1,
            )

        with self._cancellation.active(f"Storing the audio of {subject} at {path}"):
            # Without a store, a retry would not have the URL.
            return path, store(1) if self._synthesis.has_store else self._store_repeatedly(store, deadline)

    def _store_data(
        self, data: bytes, path: ObjectStoragePath, subject: str, audio_format: AudioFormat, timeout: float
    ) -> StoredAudio:
        """Store the audio of a response."""
        from airflow_provider_mps.storage.file import store_file

        deadline = Deadline(timeout, subject)

        def store(attempt: int) -> StoredAudio:
            return store_file(
                io.BytesIO(data),
                path,
                subject=subject,
                log=self.log,
                if_exists=self.if_exists,
                deadline=deadline,
                content_type=_CONTENT_TYPES[audio_format.value],
                # The storage may have completed an upload whose last response was lost.
                is_retry=attempt > 1,
            )

        try:
            return self._store_repeatedly(store, deadline)
        except AudioTransferError as error:
            assert self._synthesis is not None  # noqa: S101 - it has returned the audio
            raise self._synthesis.make_lost_error(str(error)) from error

    def _store_repeatedly(self, store: Callable[[int], StoredAudio], deadline: Deadline) -> StoredAudio:
        """
        Store audio that a retry of the task would not have; repeat it until the deadline.

        :param store: takes the number of the attempt
        """
        from tenacity import Retrying, retry_if_exception_type, wait_random_exponential

        retrying = Retrying(
            retry=retry_if_exception_type(AudioTransferError),
            stop=lambda _: self._is_url_rejected or self._cancellation.is_cancelled or deadline.get_seconds_left() <= 0,
            wait=wait_random_exponential(max=10),
            before_sleep=lambda state: self.log.warning(
                "Storing the audio failed, will retry: %s", state.outcome and state.outcome.exception()
            ),
            reraise=True,
        )
        numbers = count(1)
        return retrying(lambda: store(next(numbers)))

    def _raise_expired(self, subject: str) -> NoReturn:
        """Raise in place of returning a fresh URL: MPS has no query for the audio of an earlier call."""
        assert self._synthesis is not None  # noqa: S101 - it has returned the URL
        if self._synthesis.can_speak_again:
            raise _ExpiredUrlError
        self._is_url_rejected = True
        raise AudioTransferError(
            f"MPS's storage rejected the URL of the audio of {subject}: it has expired, or the audio is gone. Nothing "
            "was stored. A clear speaks the text again, which is billed again."
        )


class _ExpiredUrlError(Exception):
    """The URL of an earlier attempt is not valid any more, and the text may be spoken again."""
