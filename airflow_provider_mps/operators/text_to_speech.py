"""Submit a text, and store the finished audio."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, BaseOperator

from airflow_provider_mps.audio import DEFAULT_TIMEOUT, IfExists, store_audio
from airflow_provider_mps.destination import require_destination, resolve_destination
from airflow_provider_mps.errors import ErrorClass, MpsApiError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.lineage import Move
from airflow_provider_mps.links.text_to_speech import QueryPageLink, StoredObjectLink, SubmitPageLink
from airflow_provider_mps.outlets import add_asset_events, require_assets
from airflow_provider_mps.transfer.deadline import require_timeout
from airflow_provider_mps.transfer.kill_switch import KillSwitch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_mps.audio import StoredAudio
    from airflow_provider_mps.text_to_speech import TextToSpeechTask


class TextToSpeechOperator(BaseOperator):
    """
    Submit a text to MPS and return the ``TaskId``. https://www.tencentcloud.com/document/product/1041/79693

    MPS bills each accepted submit. A submit is therefore repeated only where MPS provably did not accept it; where
    that is unknown, the task fails without a retry and says so.

    :param text: what to speak (templated)
    :param voice_id: the voice (templated)
    :param text_lang: language of the text; MPS decides where it is not given (templated)
    :param ext_param: ``ExtParam`` (``synExt``, ``transExt``) as a dict or its JSON (templated)
    :param mps_conn_id: the connection, of type ``tencent_mps`` (templated)
    :param region: goes before the connection's own region (templated)
    :raises InvalidRequestError: when an argument cannot be sent; nothing was submitted, and it is not retried
    :raises MpsApiError: when MPS did not accept the text
    """

    template_fields: Sequence[str] = ("text", "voice_id", "text_lang", "ext_param", "mps_conn_id", "region")
    template_fields_renderers: ClassVar[dict[str, str]] = {"ext_param": "json"}
    operator_extra_links = (SubmitPageLink(),)
    ui_color = "#fdf3e1"

    def __init__(
        self,
        *,
        text: str,
        voice_id: str,
        text_lang: str | None = None,
        ext_param: Mapping[str, Any] | str | None = None,
        mps_conn_id: str = MpsHook.default_conn_name,
        region: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.text = text
        self.voice_id = voice_id
        self.text_lang = text_lang
        self.ext_param = ext_param
        self.mps_conn_id = mps_conn_id
        self.region = region

    def execute(self, context: Context) -> str:
        """Submit, and return the ``TaskId``."""
        hook = MpsHook(self.mps_conn_id, self.region)
        try:
            return hook.submit_text_to_speech(self.text, self.voice_id, self.text_lang, self.ext_param)
        except MpsApiError as error:
            if error.error_class is not ErrorClass.OUTCOME_UNKNOWN:
                raise
            # A plain failure would let Airflow's retries submit, and pay, a second time.
            raise AirflowFailException(
                f"{error} It is unknown whether MPS accepted this text. It was not submitted again, because it "
                "may be billed already; clear the task to submit it anew."
            ) from error


class TextToSpeechToObjectStorageOperator(BaseOperator):
    """
    Store the audio of a finished text-to-speech task in object storage.

    The task is asked for a fresh ``AudioUrl``. What was downloaded is committed only when its length and, where the
    server tells it, its CRC-64 are right: the destination never shows anything else. Returns the stored path and
    pushes the XComs ``VoiceId`` and ``duration`` (seconds, ``None`` where MPS does not tell it).

    Each outlet that is an ``Asset`` or ``AssetAlias`` gets an event whose extra holds ``uri`` (of what was stored),
    ``VoiceId``, ``duration`` (seconds), ``size`` (bytes) and ``crc64`` (CRC-64/XZ, in decimal digits).

    :param mps_task_id: the ``TaskId``, as :class:`~.TextToSpeechOperator` returns it (templated)
    :param destination: an ``ObjectStoragePath`` or its text, e.g. ``s3://conn@bucket/clip.wav``; a text that ends
        in ``/`` is a folder, in which the file takes the audio's own name (templated)
    :param if_exists: ``overwrite``; ``skip``, which moves nothing where a file of the same size is there already;
        or ``fail``
    :param transfer_timeout: seconds that moving the audio may take in all, tries included
    :param mps_conn_id: the connection, of type ``tencent_mps`` (templated)
    :param region: goes before the connection's own region (templated)
    :raises AirflowException: when the task is still processing, or the audio could not be moved this time
    :raises TextToSpeechTaskFailed: when MPS has failed the task; not retried
    :raises DestinationError: when the destination must be mended first; not retried
    """

    template_fields: Sequence[str] = ("mps_task_id", "destination", "mps_conn_id", "region")
    operator_extra_links = (StoredObjectLink(), QueryPageLink())
    ui_color = "#e4f5e7"

    def __init__(
        self,
        *,
        mps_task_id: str,
        destination: str | ObjectStoragePath,
        if_exists: Literal["overwrite", "skip", "fail"] = "overwrite",
        transfer_timeout: float = DEFAULT_TIMEOUT,
        mps_conn_id: str = MpsHook.default_conn_name,
        region: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mps_task_id = mps_task_id
        self.destination = destination
        self.if_exists = IfExists.parse(if_exists)
        self.transfer_timeout = transfer_timeout
        self.mps_conn_id = mps_conn_id
        self.region = region
        self._kill_switch = KillSwitch()
        self._move: Move | None = None
        self.stored_at: ObjectStoragePath | None = None

    @cached_property
    def hook(self) -> MpsHook:
        """The hook, kept while this task runs."""
        return MpsHook(self.mps_conn_id, self.region)

    def execute(self, context: Context) -> str:
        """Store the audio, push ``VoiceId`` and ``duration``, and return the stored path."""
        self._kill_switch = KillSwitch()
        timeout = require_timeout(self.transfer_timeout)
        destination = require_destination(self.destination)
        task = self._finished_task()
        subject = f"task {task.task_id}"
        path = resolve_destination(destination, _audio_url(task), subject)
        require_assets(self.outlets, path.as_uri(), subject)
        self.log.info("Task %s has succeeded (RequestId %s); storing its audio", task.task_id, task.request_id)
        with self._kill_switch.armed(f"Storing the audio of {subject} at {path}"):
            stored = store_audio(
                _audio_url(task),
                path,
                if_exists=self.if_exists,
                fresh_url=lambda: _audio_url(self._finished_task()),
                subject=subject,
                log=self.log,
                timeout=timeout,
            )
        self._tell(context, task, path, stored)
        return str(path)

    def on_kill(self) -> None:
        """Stop moving: what was uploaded is discarded, so that no parts of it linger."""
        self._kill_switch.pull()

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage[Any, Any] | None:
        """Tell OpenLineage where the audio came from and went to, without the link's signature."""
        return self._move.to_openlineage() if self._move else None

    def _tell(self, context: Context, task: TextToSpeechTask, path: ObjectStoragePath, stored: StoredAudio) -> None:
        context["ti"].xcom_push(key="VoiceId", value=task.voice_id)
        context["ti"].xcom_push(key="duration", value=task.duration)
        self.stored_at = path
        self._move = Move.of(_audio_url(task), path, stored.size)
        self._move.collect(self.hook)
        extra = {
            "VoiceId": task.voice_id,
            "duration": task.duration,
            "size": stored.size,
            # As digits, for a browser would round the number.
            "crc64": None if stored.crc64 is None else str(stored.crc64),
        }
        add_asset_events(context, self.outlets, path.as_uri(), extra)

    def _finished_task(self) -> TextToSpeechTask:
        task = self.hook.describe_text_to_speech_task(self.mps_task_id)
        if not task.is_ready():
            raise AirflowException(
                f"Task {task.task_id} is still processing (RequestId {task.request_id}), so there is no audio to "
                "store yet. Put a TextToSpeechTaskSensor before this task."
            )
        return task


def _audio_url(task: TextToSpeechTask) -> str:
    if task.audio_url is None:
        raise AirflowException(
            f"MPS says that task {task.task_id} has succeeded, but gives no AudioUrl (RequestId {task.request_id}). "
            "Try again later; if this goes on, give Tencent's support the RequestId."
        )
    return task.audio_url
