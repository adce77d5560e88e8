"""Submit a text, and store the finished audio."""

from __future__ import annotations

import time
import warnings
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowTaskTimeout,
    BaseOperator,
    conf,
)

from airflow_provider_mps.choice import IfExists, OnUnknown
from airflow_provider_mps.destination import require_destination, resolve_destination
from airflow_provider_mps.durable_submit import DurableSubmit
from airflow_provider_mps.errors import MpsApiError
from airflow_provider_mps.ext_param import SpeechOptions
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.intervals import PollInterval
from airflow_provider_mps.lineage import Move
from airflow_provider_mps.links.text_to_speech import QueryPageLink, StoredObjectLink, SubmitPageLink
from airflow_provider_mps.mapped_values import LiteralMappedValues
from airflow_provider_mps.older_airflow import TimeLimit, uri_of
from airflow_provider_mps.outlets import add_asset_events, require_assets
from airflow_provider_mps.speech_request import SpeechRequest, require_limit
from airflow_provider_mps.submission import max_tries_of, started_at, state_store, try_number_of
from airflow_provider_mps.text_file import read_text, require_one_text
from airflow_provider_mps.text_to_speech import TaskStatus
from airflow_provider_mps.transfer.deadline import DEFAULT_TIMEOUT, require_timeout
from airflow_provider_mps.transfer.kill_switch import KillSwitch
from airflow_provider_mps.triggers.event import finished_task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_mps.audio import StoredAudio
    from airflow_provider_mps.submission import StateStore
    from airflow_provider_mps.text_to_speech import TextToSpeechTask


class TextToSpeechOperator(TimeLimit, LiteralMappedValues, BaseOperator):
    """
    Submit a text to MPS and return the ``TaskId``. https://www.tencentcloud.com/document/product/1041/79693

    MPS bills each accepted submit, so it is repeated only where MPS provably did not accept it. On Airflow 3.3 and
    later the ``TaskId`` is stored at once, so that a retry, after the worker was killed, say, reconnects to the same
    MPS task. If an attempt is killed between sending and storing, the outcome is unknown, and ``on_unknown`` decides.
    If MPS fails the task, only a *clear* submits again. The ``TaskId`` is also pushed as the XCom ``TaskId`` before any
    waiting. Values that ``expand_kwargs`` takes from another task are not rendered.

    :param text: what to speak (templated)
    :param text_path: an ``ObjectStoragePath`` or its text, of a file of UTF-8 that is spoken in place of ``text``
        (templated)
    :param voice_id: the voice (templated)
    :param text_lang: language of the text; MPS decides where it is not given (templated)
    :param ext_param: ``ExtParam`` (``synExt``, ``transExt``) as a dict or its JSON (templated)
    :param sample_rate: Hz: 8000, 16000, 22050, 32000 or 44100 (templated)
    :param pitch: from -12 to 12 (templated)
    :param target_duration: seconds that the audio shall last (templated)
    :param translate_to: language to translate the text to, e.g. ``en`` (templated)
    :param translate_requirement: what the translation shall heed (templated)
    :param max_characters: how many a text may have at most, so that none is paid by mistake (templated)
    :param wait_for_completion: wait until MPS has finished the task, and fail where it fails
    :param deferrable: wait in the triggerer; the default is Airflow's ``[operators] default_deferrable``
    :param poll_interval: seconds between two questions while waiting, as far as the connection's budget allows
    :param durable: ``False``: remember nothing; each attempt, and each *clear*, submits again. A failure after MPS has
        accepted the text is then not retried
    :param on_unknown: if it is unknown whether MPS has accepted the text: ``fail``, without a retry, or ``resubmit``
        in the next attempt, which may be billed twice
    :param mps_conn_id: the connection, of type ``tencent_mps`` (templated)
    :param region: goes before the connection's own region (templated)
    :raises InvalidRequestError: when an argument cannot be sent; nothing was submitted, and it is not retried
    :raises MpsApiError: when MPS did not accept the text
    :raises AirflowFailException: if it is unknown whether MPS accepted it; with ``on_unknown="resubmit"`` an
        ``AirflowException``, which is retried
    :raises TextToSpeechTaskFailed: if MPS has failed the task that it waits for, or that an earlier attempt has
        submitted; not retried
    """

    template_fields: Sequence[str] = (
        "text",
        "text_path",
        "voice_id",
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
        voice_id: str,
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
        self.on_unknown = OnUnknown.parse(on_unknown)
        self.mps_conn_id = mps_conn_id
        self.region = region
        self._submit: DurableSubmit | None = None
        self._started_at = 0.0
        if (
            deferrable
            and not wait_for_completion
            and not conf.getboolean("operators", "default_deferrable", fallback=False)
        ):
            warnings.warn(
                f"deferrable=True of task '{self.task_id}' has no effect without wait_for_completion=True: the task "
                "ends when MPS has accepted the text.",
                UserWarning,
                stacklevel=2,
            )

    @cached_property
    def hook(self) -> MpsHook:
        """The hook, kept while this task runs."""
        return MpsHook(self.mps_conn_id, self.region)

    def execute(self, context: Context) -> str:
        """Submit, or reconnect to what an earlier attempt has submitted; wait if asked to; return the ``TaskId``."""
        interval = PollInterval(self.poll_interval)
        self._started_at = started_at(context)
        submit = self._durable_submit(context)
        with submit.concluded():
            request = self._request()
            if self.durable and self._store(context) is None:
                self.log.info(
                    "This Airflow has no task state store, which it has from 3.3 on: a retry or a clear submits again"
                )
            known = submit.reconnect(request)
            task_id = known.task_id if known else submit.submit(request)
            if "ti" in context:
                context["ti"].xcom_push(key="TaskId", value=task_id)
            if self.wait_for_completion and not (known and known.status is TaskStatus.SUCCESS):
                self._wait(task_id, interval)
            return task_id

    def execute_complete(self, context: Context, event: Mapping[str, Any], mps_task_id: str | None = None) -> str:
        """Return the ``TaskId``, or raise why there is no audio, once the trigger has fired."""
        with self._durable_submit(context).concluded(mps_task_id):
            try:
                task = finished_task(event)
            except AirflowSensorTimeout as error:
                if mps_task_id and self._is_done_after_all(mps_task_id):
                    return mps_task_id
                raise self._timed_out(context, str(error).removesuffix(" when the sensor's timeout ended.")) from None
            task.is_ready()
            self.log.info("Task %s has succeeded (RequestId %s)", task.task_id, task.request_id)
            return task.task_id

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after the triggerer; where Airflow has ended the waiting by itself, no retry may submit again."""
        if next_method != "__fail__":
            return super().resume_execution(next_method, next_kwargs, context)
        instance = context["ti"]
        pushed = instance.xcom_pull(task_ids=self.task_id, key="TaskId", map_indexes=instance.map_index)
        with self._durable_submit(context).concluded(pushed or "of this text"):
            return super().resume_execution(next_method, next_kwargs, context)

    def _timed_out(self, context: Context, what: str) -> AirflowException:
        """Return what to raise when the time for waiting has ended."""
        if self._store(context) is None:
            return AirflowFailException(
                f"{what} when execution_timeout ended. It is not retried, for nothing has remembered it: a clear "
                "submits again, which is billed. A TextToSpeechTaskSensor with this id waits for it."
            )
        return AirflowException(f"{what} when execution_timeout ended. A retry, or a clear, reconnects to it.")

    def _is_done_after_all(self, task_id: str) -> bool:
        """Ask once more: nobody may have asked since long before the deadline, e.g. where no triggerer was there."""
        try:
            task = self.hook.describe_text_to_speech_task(task_id)
        except MpsApiError as error:
            self.log.warning("Task %s could not be asked for once more: %s", task_id, error)
            return False
        return task.is_ready()

    def on_kill(self) -> None:
        """Say what goes on: MPS has no call that would cancel it."""
        if self._submit and self._submit.goes_on:
            self.log.warning("%s goes on at MPS, and may be billed: MPS has no call to cancel it", self._submit.goes_on)

    def _durable_submit(self, context: Context) -> DurableSubmit:
        self._submit = DurableSubmit(
            self.hook,
            self._store(context),
            max_tries_of(context),
            self.on_unknown,
            self.log,
            try_number=try_number_of(context),
        )
        return self._submit

    def _store(self, context: Context) -> StateStore | None:
        return state_store(context) if self.durable else None

    def _request(self) -> SpeechRequest:
        require_one_text(self.text, self.text_path)
        text = read_text(self.text_path) if self.text_path else self.text
        options = SpeechOptions(
            self.ext_param,
            self.sample_rate,
            self.pitch,
            self.target_duration,
            self.translate_to,
            self.translate_requirement,
        )
        limit = require_limit(self.max_characters)
        return SpeechRequest.checked(text, self.voice_id, self.text_lang, options.build(), limit)

    def _wait(self, task_id: str, interval: PollInterval) -> None:
        """Wait in this worker, or leave it to the triggerer."""
        if self.deferrable:
            self._defer(task_id)
        from airflow_provider_mps.credential_gate import ACCEPTED
        from airflow_provider_mps.own_loop import OwnLoop
        from airflow_provider_mps.triggers.poller import wait_for_task
        from airflow_provider_mps.triggers.report import LastSeen

        ACCEPTED.add(self.hook.mps_conn_id)  # it has just submitted, or queried, this task
        last_seen = LastSeen(time.time())
        waiting = OwnLoop(
            lambda: wait_for_task(
                task_id, interval, self.mps_conn_id, self.region or None, self.poll_interval, last_seen=last_seen
            )
        )
        try:
            task = waiting.run()
        except AirflowTaskTimeout as error:
            raise AirflowTaskTimeout(f"{str(error).rstrip('.')}. {last_seen.describe(task_id)}.") from None
        task.is_ready()
        self.log.info("Task %s has succeeded (RequestId %s)", task.task_id, task.request_id)

    def _defer(self, task_id: str) -> NoReturn:
        from airflow_provider_mps.triggers.text_to_speech import HANDOVER, TextToSpeechTaskTrigger

        now, limit = time.time(), self.execution_timeout
        self.defer(
            trigger=TextToSpeechTaskTrigger(
                task_id,
                self.mps_conn_id,
                self.region or None,
                self.poll_interval,
                asked_at=now,
                deadline=self._started_at + limit.total_seconds() if limit else None,
            ),
            method_name="execute_complete",
            kwargs={"mps_task_id": task_id},
            # Airflow's own is for a triggerer that is gone: it cannot name the task.
            timeout=limit + timedelta(seconds=2 * HANDOVER) if limit else None,
        )


class TextToSpeechToObjectStorageOperator(LiteralMappedValues, BaseOperator):
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
    :param if_exists: ``overwrite``; ``skip``, which moves nothing where a file of the same CRC-64 is there already, or
        of the same size where the audio's server sends no CRC-64; or ``fail``
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
        from airflow_provider_mps.audio import store_audio

        self._kill_switch = KillSwitch()
        timeout = require_timeout(self.transfer_timeout)
        destination = require_destination(self.destination)
        task = self._finished_task()
        subject = f"task {task.task_id}"
        path = resolve_destination(destination, _audio_url(task), subject)
        require_assets(self.outlets, uri_of(path), subject)
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
        add_asset_events(context, self.outlets, uri_of(path), extra)

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
