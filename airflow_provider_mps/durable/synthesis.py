"""Speak a short text once over all attempts of a task; a retry stores the audio from the recorded URL."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, cast

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from fastcrc import crc64

from airflow_provider_mps.durable.billed import BilledRequest, Wording
from airflow_provider_mps.durable.record import SubmitDecision, SubmitRecord
from airflow_provider_mps.redaction import mask_signed_url
from airflow_provider_mps.speech.audio_sample import is_url
from airflow_provider_mps.speech.parsing import OnUnknown
from airflow_provider_mps.speech.synthesis import OutputType, SynthesisRequest, SynthesizedSpeech

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_mps.hooks.mps import MpsHook

STATE_KEY = "mps_synthesis"
"""Key of the record in the task state store. Running tasks have stored it, so it must not change."""
URL_LIFETIME = timedelta(hours=24)
"""How long a URL of MPS is valid. https://cloud.tencent.com/document/product/862/135348"""
WORDING = Wording(
    noun="text",
    risk="it may already be billed",
    second_submit="may be billed twice",
    before_clear="MPS keeps no record of it that Airflow could use: ",
    accepted="the text (RequestId %s)",
    state="The text (RequestId %s) is billed, and its audio was not stored",
    not_retried="It is not retried, because Airflow has no record of the audio: a clear speaks the text again, which "
    "is billed again.",
)


@dataclass(frozen=True)
class SynthesisRecord(SubmitRecord):
    """What the task state store holds about a short text; ``task_id`` is the ``RequestId`` of its response."""

    audio_url: str | None = field(default=None, repr=False)
    """Signed URL of the audio; ``None`` if MPS returned the audio itself."""
    ext_info: dict[str, Any] = field(default_factory=dict)
    size: int | None = None
    """Bytes of the audio that MPS returned itself."""
    crc64: str | None = None
    """CRC-64/XZ of that audio, in digits."""

    @classmethod
    def load(cls, store: Any, key: str = STATE_KEY) -> Self | None:
        """Return the record of an earlier attempt, without values that this version cannot use."""
        record = super().load(store, key)
        if record is None:
            return None
        has_url = isinstance(record.audio_url, str) and is_url(record.audio_url)
        return replace(
            record,
            audio_url=record.audio_url if has_url else None,
            ext_info=record.ext_info if isinstance(record.ext_info, dict) else {},
        )

    @property
    def checksum(self) -> tuple[int, int] | None:
        """Size and CRC-64 of the audio that MPS returned itself; ``None`` if it returned a URL."""
        try:
            return int(self.size), int(self.crc64)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return None

    @property
    def has_audio(self) -> bool:
        """Whether the URL of the audio is younger than :data:`URL_LIFETIME`, so that a download may succeed."""
        if not self.audio_url:
            return False
        try:
            return datetime.now(UTC) - datetime.fromisoformat(self.sent_at) < URL_LIFETIME
        except (TypeError, ValueError):  # another version has stored it
            return True

    def to_speech(self) -> SynthesizedSpeech:
        """Return the speech that MPS has returned to an earlier attempt."""
        return SynthesizedSpeech(self.audio_url, None, self.ext_info, str(self.task_id))


class DurableSynthesis(BilledRequest[SynthesisRequest]):
    """
    The short text of one task instance, over all of its attempts.

    :param on_unknown: what to do if it is unknown whether MPS has spoken the text
    :param durable: ``False``: keep no record
    """

    record_class = SynthesisRecord

    def __init__(
        self, hook: MpsHook, context: Mapping[str, Any], on_unknown: OnUnknown, log: Any, *, durable: bool = True
    ) -> None:
        super().__init__(STATE_KEY, WORDING, hook, context, on_unknown, log, durable=durable)
        self._has_spoken = False

    @property
    def can_speak_again(self) -> bool:
        """Whether this attempt, which has not spoken the text yet, may be billed for it again."""
        return (self.was_cleared or self._on_unknown is OnUnknown.RESUBMIT) and not self._has_spoken

    @property
    def checksum(self) -> tuple[int, int] | None:
        """Size and CRC-64 of the audio that MPS returned itself; ``None`` if it returned a URL."""
        return cast("SynthesisRecord", self._pending).checksum if self._pending else None

    def speak(self, request: SynthesisRequest) -> SynthesizedSpeech:
        """
        Speak the text, which MPS bills; record the start, and where the audio is.

        :raises AirflowException: if the outcome is unknown, and a retry may speak the text again
        :raises AirflowFailException: if the outcome is unknown, and no retry may speak the text again
        :raises MpsApiError: if MPS did not speak the text
        """
        voice_id = request.voice_id if request.voice_name else None

        def start() -> SynthesisRecord:
            record = SynthesisRecord.start(self._fingerprint(request), self._max_tries)
            return replace(record, voice_id=voice_id)

        self._has_spoken = True
        speech = self._send(start, lambda: self._hook.synthesize(request))
        mask_signed_url(speech.audio_url)
        record = cast("SynthesisRecord", self._pending or start())
        accepted = replace(record, task_id=speech.request_id or "unknown", ext_info=speech.ext_info)
        if speech.audio_data is None:
            accepted = replace(accepted, audio_url=speech.audio_url)
        else:
            # A later attempt recognizes by them that this one has stored the audio.
            accepted = replace(accepted, size=len(speech.audio_data), crc64=str(crc64.xz(speech.audio_data)))
        self._save_accepted(accepted)
        return speech

    def make_lost_error(self, reason: str) -> AirflowException:
        """
        Return the error for audio that is billed and cannot be stored.

        :param reason: a sentence
        """
        if self._on_unknown is OnUnknown.RESUBMIT:
            self._pending = None  # so that a retry may speak the text also without a store
            return AirflowException(f"{reason} A retry speaks the text again, as on_unknown='resubmit' requests.")
        return AirflowFailException(
            f"{reason} It is not retried, because MPS would bill the text again. Clear the task to speak it again."
        )

    def find_earlier(
        self, request: SynthesisRequest, is_stored: Callable[[int, int], bool]
    ) -> SynthesizedSpeech | None:
        """
        Return the speech of an earlier attempt; ``None`` if this attempt must speak the text.

        The speech has neither a URL nor data if the earlier attempt has stored its audio.

        :param is_stored: returns whether the destination has audio of this size and CRC-64
        :raises AirflowException: if the outcome is unknown, and a retry may speak the text again
        :raises AirflowFailException: if the outcome is unknown, or the audio of an earlier attempt is lost
        """
        earlier: SynthesisRecord | None = self._load()
        if earlier is None:
            return None
        if self._decide(earlier, request) is SubmitDecision.SUBMIT:
            reason = (
                "it is unknown whether MPS has spoken it" if earlier.task_id is None else "the arguments have changed"
            )
            self._log.warning("Speaking the text again, although an attempt sent it at %s: %s", earlier.sent_at, reason)
            return None
        self._pending = earlier
        has_stored = not earlier.audio_url and earlier.checksum is not None and is_stored(*earlier.checksum)
        # A user who chooses the data and clears the task cannot download the URL.
        wants_data = self.was_cleared and request.output_type is OutputType.DATA
        if has_stored:
            self._log.info(
                "An earlier attempt has stored the audio (RequestId %s): nothing was spoken again", earlier.task_id
            )
        elif earlier.has_audio and not wants_data:
            mask_signed_url(earlier.audio_url)
            self._log.info(
                "Storing the audio of an earlier attempt (RequestId %s): nothing was spoken again", earlier.task_id
            )
        else:
            reason = _describe_loss(earlier)
            if not self.was_cleared and self._on_unknown is OnUnknown.FAIL:
                raise self.make_lost_error(reason)
            self._log.warning("%s Speaking the text again", reason)
            return None
        self._keep(earlier)
        return earlier.to_speech()


def _describe_loss(earlier: SynthesisRecord) -> str:
    """Return a sentence that says why the audio of an earlier attempt cannot be used."""
    returned = f"that MPS returned at {earlier.sent_at} (RequestId {earlier.task_id})"
    if not earlier.audio_url:
        return f"The audio {returned} was in the response, and is not stored at the destination."
    problem = "is not used with output_type=data" if earlier.has_audio else "has expired"
    return f"The URL of the audio {returned} {problem}."
