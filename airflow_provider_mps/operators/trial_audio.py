"""Push the XComs of a voice, and store its trial audio in object storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_mps.exceptions import AudioTransferError, InvalidRequestError
from airflow_provider_mps.redaction import mask_signed_url
from airflow_provider_mps.storage.deadline import TransferCancellation, parse_timeout
from airflow_provider_mps.storage.destination import parse_destination, resolve_destination

if TYPE_CHECKING:
    from typing import Any

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_mps.hooks.mps import MpsHook


class TrialAudio:
    """
    The trial audio of a voice that an operator makes.

    :param destination: where to store it; ``None`` or empty: do not store it
    :param transfer_timeout: seconds for storing the audio, including retries
    :param trial_text: what the voice speaks; without it, there is no audio
    :raises InvalidRequestError: if an argument is invalid; no voice was created
    """

    def __init__(self, destination: object, transfer_timeout: object, trial_text: object, log: Any) -> None:
        self._destination = parse_destination(destination) if destination not in (None, "") else None
        self._timeout = parse_timeout(transfer_timeout)
        self._log = log
        self._cancellation = TransferCancellation()
        if self._destination is not None and (trial_text is None or not str(trial_text).strip()):
            raise InvalidRequestError(
                "trial_destination is set without trial_text: no voice was created. Set the text that the voice speaks."
            )

    def push(
        self, context: Context, hook: MpsHook, voice_id: str, audio_url: str | None, duration: float | None
    ) -> ObjectStoragePath | None:
        """
        Push ``VoiceId`` and ``AudioUrl``; store the audio, and push ``duration`` and ``trial_audio``.

        :return: where the audio is stored; ``None`` if it is not
        :raises AudioTransferError: if it could not be stored this time
        :raises DestinationError: if the destination must be fixed
        """
        ti = context.get("ti")
        mask_signed_url(audio_url)
        if ti is not None:
            ti.xcom_push(key="VoiceId", value=voice_id)
            if audio_url:
                ti.xcom_push(key="AudioUrl", value=audio_url)
        if self._destination is None:
            return None
        if audio_url is None:
            self._log.warning("MPS reports no trial audio of voice %s, so none was stored", voice_id)
            return None
        path = self._store(hook, voice_id, audio_url)
        if ti is not None:
            ti.xcom_push(key="duration", value=duration)
            ti.xcom_push(key="trial_audio", value=str(path))
        return path

    def cancel(self) -> None:
        """Cancel the transfer and discard the uploaded parts."""
        self._cancellation.cancel()

    def _store(self, hook: MpsHook, voice_id: str, audio_url: str) -> ObjectStoragePath:
        from airflow_provider_mps.storage.transfer import store_audio

        def get_fresh_url() -> str:
            voice = hook.get_voice(voice_id)
            if voice is None or voice.audio_url is None:
                raise AudioTransferError(
                    f"The URL of the trial audio of voice {voice_id} has expired, and MPS reports no other. Unset "
                    "trial_destination to use the voice without it."
                )
            mask_signed_url(voice.audio_url)
            return voice.audio_url

        subject = f"voice {voice_id}"
        path = resolve_destination(self._destination or "", audio_url, subject)
        with self._cancellation.active(f"Storing the trial audio of {subject} at {path}"):
            store_audio(
                audio_url, path, get_fresh_url=get_fresh_url, subject=subject, log=self._log, timeout=self._timeout
            )
        return path
