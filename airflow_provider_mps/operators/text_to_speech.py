"""Submit a text to MPS, and store the finished audio in object storage."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import AirflowException, conf

from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.links.text_to_speech import QueryPageLink, StoredObjectLink, SubmitPageLink
from airflow_provider_mps.operators.store import StoreOperator
from airflow_provider_mps.operators.submit import SubmitOperator
from airflow_provider_mps.operators.synthesize import TextToSpeechSynthesizeOperator
from airflow_provider_mps.redaction import format_path
from airflow_provider_mps.speech.parsing import OnUnknown, parse_choice
from airflow_provider_mps.storage.deadline import DEFAULT_TRANSFER_TIMEOUT_SECONDS, TransferCancellation, parse_timeout
from airflow_provider_mps.storage.destination import parse_destination, resolve_destination
from airflow_provider_mps.storage.if_exists import IfExists
from airflow_provider_mps.storage.text_file import read_text, validate_text_source
from airflow_provider_mps.version_compat import make_uri

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_mps.durable.submit import SubmitKind
    from airflow_provider_mps.speech.request import SpeechRequest
    from airflow_provider_mps.speech.task import MpsTask, TextToSpeechTask
    from airflow_provider_mps.triggers.task import TaskTrigger


__all__ = ["TextToSpeechOperator", "TextToSpeechSynthesizeOperator", "TextToSpeechToObjectStorageOperator"]


class TextToSpeechOperator(SubmitOperator):
    """
    Submit a text to MPS and return the ``TaskId``.

    MPS bills each accepted submit, so a request is retried only if MPS provably did not accept it. From Airflow 3.3,
    the ``TaskId`` is stored at once: a retry, e.g. after the worker was killed, reconnects to the same MPS task. If an
    attempt is killed between sending and storing, the outcome is unknown: ``on_unknown`` says what happens then. If MPS
    fails the task, only a clear submits again. The ``TaskId`` is also pushed as the XCom ``TaskId`` before any waiting.
    Values that ``expand_kwargs`` takes from another task are not rendered.
    https://www.tencentcloud.com/document/product/1041/79693

    :param text: text to speak (templated)
    :param text_path: UTF-8 file to speak in place of ``text``, as an ``ObjectStoragePath`` or a string (templated)
    :param voice_id: ``VoiceId`` of the voice (templated)
    :param voice_name: exact name of the voice, in place of ``voice_id``; looked up in each attempt (templated)
    :param text_lang: language of the text, e.g. ``en``. Without it, the default of MPS applies: Chinese on the
        international site, automatic detection on the mainland site (templated)
    :param ext_param: ``ExtParam`` (``synExt``, ``transExt``) as a dict or as JSON (templated)
    :param sample_rate: sample rate in Hz: 8000, 16000, 22050, 32000 or 44100 (templated)
    :param pitch: pitch from -12 to 12 (templated)
    :param target_duration: length of the audio in seconds (templated)
    :param translate_to: language to translate the text to, e.g. ``en`` (templated)
    :param translate_requirement: instruction for the translation (templated)
    :param max_characters: maximum length of the text; a longer one fails before it is billed (templated)
    :param wait_for_completion: wait until MPS has finished the task, and fail if MPS fails it
    :param deferrable: wait in the triggerer; the default is Airflow's ``[operators] default_deferrable``
    :param poll_interval: seconds between two polls; longer if the connection's rate limit requires it
    :param durable: ``False``: keep no record, so that each attempt and each clear submits again. A failure after MPS
        has accepted the text is then not retried
    :param on_unknown: if it is unknown whether MPS accepted the text: ``fail`` without a retry, or ``resubmit`` in the
        next attempt, which may be billed twice
    :param mps_conn_id: connection of type ``tencent_mps`` (templated)
    :param region: overrides the connection's region (templated)
    :raises InvalidRequestError: if an argument is invalid; nothing was submitted; not retried
    :raises MpsApiError: if MPS did not accept the text
    :raises AirflowFailException: if it is unknown whether MPS accepted the text; with ``on_unknown="resubmit"`` an
        ``AirflowException``, which Airflow retries
    :raises TextToSpeechTaskFailed: if MPS failed the task that this attempt waits for, or that an earlier attempt
        submitted; not retried
    """

    template_fields: Sequence[str] = (
        "text",
        "text_path",
        "voice_id",
        "voice_name",
        "text_lang",
        "ext_param",
        "sample_rate",
        "pitch",
        "target_duration",
        "translate_to",
        "translate_requirement",
        "max_characters",
        "mps_conn_id",
        "region",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"ext_param": "json"}
    operator_extra_links = (SubmitPageLink(),)
    ui_color = "#fdf3e1"

    def __init__(
        self,
        *,
        text: str | None = None,
        voice_id: str | None = None,
        voice_name: str | None = None,
        text_path: str | ObjectStoragePath | None = None,
        text_lang: str | None = None,
        ext_param: Mapping[str, Any] | str | None = None,
        sample_rate: int | str | None = None,
        pitch: int | str | None = None,
        target_duration: float | str | None = None,
        translate_to: str | None = None,
        translate_requirement: str | None = None,
        max_characters: int | str | None = None,
        wait_for_completion: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 10.0,
        durable: bool = True,
        on_unknown: Literal["fail", "resubmit"] = "fail",
        mps_conn_id: str = MpsHook.default_conn_name,
        region: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.text = text
        self.text_path = text_path
        self.voice_id = voice_id
        self.voice_name = voice_name
        self.text_lang = text_lang
        self.ext_param = ext_param
        self.sample_rate = sample_rate
        self.pitch = pitch
        self.target_duration = target_duration
        self.translate_to = translate_to
        self.translate_requirement = translate_requirement
        self.max_characters = max_characters
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.durable = durable
        self.on_unknown = parse_choice(OnUnknown, on_unknown)
        self.mps_conn_id = mps_conn_id
        self.region = region
        is_deferrable_by_default = conf.getboolean("operators", "default_deferrable", fallback=False)
        if deferrable and not wait_for_completion and not is_deferrable_by_default:
            warnings.warn(
                f"deferrable=True of task '{self.task_id}' has no effect without wait_for_completion=True: the task "
                "ends when MPS has accepted the text.",
                UserWarning,
                stacklevel=2,
            )

    def get_kind(self) -> SubmitKind[Any]:
        """Return what the operator submits."""
        from airflow_provider_mps.durable.submit import TEXT

        return TEXT

    def make_trigger(self, task_id: str, **arguments: Any) -> TaskTrigger:
        """Return the trigger that waits for the task."""
        from airflow_provider_mps.triggers.text_to_speech import TextToSpeechTaskTrigger

        return TextToSpeechTaskTrigger(task_id, **arguments)

    def execute(self, context: Context) -> str:
        """Submit, or reconnect to the task of an earlier attempt; wait if requested; return the ``TaskId``."""
        from airflow_provider_mps.polling.intervals import PollInterval

        interval = PollInterval(self.poll_interval)
        submit = self.begin(context)
        with submit.prevent_double_billing():
            request = submit.find_voice(self._make_request())
            earlier = submit.reconnect(request)
            found_voice_id = request.voice_id if request.voice_name else None
            task_id = earlier.task_id if earlier else submit.submit(request, found_voice_id)
            if "ti" in context:
                context["ti"].xcom_push(key="TaskId", value=task_id)
            if self.wait_for_completion and not (earlier and earlier.is_done):
                self.wait(context, task_id, interval)
            return task_id

    def finish(self, context: Context, task: MpsTask) -> str:
        """Return the ``TaskId``."""
        return task.task_id

    def _make_request(self) -> SpeechRequest:
        from airflow_provider_mps.speech.ext_param import SpeechOptions
        from airflow_provider_mps.speech.request import SpeechRequest, parse_max_characters
        from airflow_provider_mps.speech.voices import validate_voice_choice

        validate_text_source(self.text, self.text_path)
        validate_voice_choice(self.voice_id, self.voice_name)
        text = read_text(self.text_path) if self.text_path else self.text
        options = SpeechOptions(
            self.ext_param,
            self.sample_rate,
            self.pitch,
            self.target_duration,
            self.translate_to,
            self.translate_requirement,
        )
        limit = parse_max_characters(self.max_characters)
        source = f"text_path {format_path(self.text_path)}" if self.text_path else "text"
        return SpeechRequest.from_arguments(
            text,
            self.voice_id,
            self.text_lang,
            options.build(),
            limit,
            text_source=source,
            voice_name=self.voice_name,
        )


class TextToSpeechToObjectStorageOperator(StoreOperator):
    """
    Store the audio of a finished text-to-speech task in object storage.

    The operator queries MPS for a fresh ``AudioUrl``, and commits the file only after it has verified the length and,
    if the server sends one, the CRC-64. It returns the stored path and pushes the XComs ``VoiceId`` and ``duration``
    (seconds; ``None`` if MPS does not report it). https://www.tencentcloud.com/document/product/1041/79696

    Each outlet that is an ``Asset`` or an ``AssetAlias`` gets an event. Its extra holds ``uri`` (the stored path),
    ``VoiceId``, ``duration`` (seconds), ``size`` (bytes) and ``crc64`` (CRC-64/XZ in decimal digits).

    :param mps_task_id: ``TaskId`` that :class:`~.TextToSpeechOperator` returned (templated)
    :param destination: an ``ObjectStoragePath`` or a string, e.g. ``s3://conn@bucket/clip.wav``; a string that ends in
        ``/`` is a folder, in which the file gets the name that MPS gave the audio (templated)
    :param if_exists: ``overwrite``; ``skip`` the transfer if the file has the same CRC-64 (or the same size, if the
        audio's server sends no CRC-64); or ``fail``
    :param transfer_timeout: seconds for the whole transfer, including its attempts
    :param partition_key: partition of the event of each ``Asset`` in ``outlets``, from Airflow 3.3 (templated)
    :param mps_conn_id: connection of type ``tencent_mps`` (templated)
    :param region: overrides the connection's region (templated)
    :raises AirflowException: if MPS is still processing the task, or the transfer failed this time
    :raises TextToSpeechTaskFailed: if MPS failed the task; not retried
    :raises DestinationError: if the destination must be fixed first; not retried
    """

    template_fields: Sequence[str] = ("mps_task_id", "destination", "partition_key", "mps_conn_id", "region")
    operator_extra_links = (StoredObjectLink(), QueryPageLink())

    def __init__(
        self,
        *,
        mps_task_id: str,
        destination: str | ObjectStoragePath,
        if_exists: Literal["overwrite", "skip", "fail"] = "overwrite",
        transfer_timeout: float = DEFAULT_TRANSFER_TIMEOUT_SECONDS,
        partition_key: str | None = None,
        mps_conn_id: str = MpsHook.default_conn_name,
        region: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mps_task_id = mps_task_id
        self.destination = destination
        self.if_exists = parse_choice(IfExists, if_exists)
        self.transfer_timeout = transfer_timeout
        self.partition_key = partition_key
        self.mps_conn_id = mps_conn_id
        self.region = region

    def execute(self, context: Context) -> str:
        """Store the audio, push ``VoiceId`` and ``duration``, and return the stored path."""
        from airflow_provider_mps.storage.asset_events import parse_partition_key, validate_asset_outlets
        from airflow_provider_mps.storage.transfer import store_audio

        self._cancellation = TransferCancellation()
        timeout = parse_timeout(self.transfer_timeout)
        destination = parse_destination(self.destination)
        parse_partition_key(self.partition_key, self.outlets)
        task = self._get_finished_task()
        subject = f"task {task.task_id}"
        path = resolve_destination(destination, task.get_audio_url(), subject)
        validate_asset_outlets(self.outlets, make_uri(path), subject)
        self.log.info("Task %s has succeeded (RequestId %s); storing its audio", task.task_id, task.request_id)
        with self._cancellation.active(f"Storing the audio of {subject} at {path}"):
            audio = store_audio(
                task.get_audio_url(),
                path,
                if_exists=self.if_exists,
                get_fresh_url=lambda: self._get_finished_task().get_audio_url(),
                subject=subject,
                log=self.log,
                timeout=timeout,
            )
        return self.finish(
            context, path, audio, source=task.get_audio_url(), voice_id=task.voice_id, duration=task.duration
        )

    def _get_finished_task(self) -> TextToSpeechTask:
        task = self.hook.describe_text_to_speech_task(self.mps_task_id)
        task.raise_for_status()
        if not task.is_done:
            raise AirflowException(
                f"Task {task.task_id} is still processing (RequestId {task.request_id}), so there is no audio to "
                "store yet. Put a TextToSpeechTaskSensor before this task."
            )
        return task
