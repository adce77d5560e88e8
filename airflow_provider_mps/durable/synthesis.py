"""Speak a short text once over all attempts of a task; a retry stores the audio from the recorded URL."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_mps.durable.billed import BilledRequest, Wording
from airflow_provider_mps.durable.record import SubmitDecision, SubmitRecord
from airflow_provider_mps.redaction import mask_signed_url
from airflow_provider_mps.speech.parsing import OnUnknown
from airflow_provider_mps.speech.synthesis import SynthesisRequest, SynthesizedSpeech

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        """Whether a user has cleared the task, and this attempt has not sent the text yet."""
        return self.was_cleared and not self._has_spoken

    def run(self, request: SynthesisRequest) -> SynthesizedSpeech:
        """
        Return the speech: of an earlier attempt, or a new one.

        :raises AirflowException: if the outcome is unknown, and a retry may speak the text again
        :raises AirflowFailException: if the outcome is unknown, or the audio of an earlier attempt is lost
        :raises MpsApiError: if MPS did not speak the text
        """
        return self._find_earlier(request) or self.speak(request)

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
        request_id = speech.request_id or "unknown"
        self._save_accepted(replace(record, task_id=request_id, audio_url=speech.audio_url, ext_info=speech.ext_info))
        return speech

    def make_lost_error(self, reason: str) -> AirflowException:
        """
        Return the error for audio that is billed and cannot be stored.

        :param reason: a sentence
        """
        if self._on_unknown is OnUnknown.RESUBMIT:
            return AirflowException(f"{reason} A retry speaks the text again, as on_unknown='resubmit' requests.")
        return AirflowFailException(
            f"{reason} It is not retried, because MPS would bill the text again. Clear the task to speak it again."
        )

    def _find_earlier(self, request: SynthesisRequest) -> SynthesizedSpeech | None:
        """Return the speech of an earlier attempt; ``None`` if this attempt must speak the text."""
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
        if earlier.has_audio:
            mask_signed_url(earlier.audio_url)
            self._log.info(
                "Storing the audio of an earlier attempt (RequestId %s): nothing was spoken again", earlier.task_id
            )
            self._keep(earlier)
            return earlier.to_speech()
        reason = (
            f"The URL of the audio that MPS returned at {earlier.sent_at} (RequestId {earlier.task_id}) has expired."
            if earlier.audio_url
            else f"The audio that MPS returned at {earlier.sent_at} (RequestId {earlier.task_id}) was in the response, "
            "which is not kept for later attempts."
        )
        if not self.was_cleared and self._on_unknown is OnUnknown.FAIL:
            raise self.make_lost_error(reason)
        self._log.warning("%s Speaking the text again", reason)
        return None
