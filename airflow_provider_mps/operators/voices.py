"""Clone, design and delete voices."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowException, BaseOperator, conf

from airflow_provider_mps.exceptions import InvalidRequestError, MpsPermanentError
from airflow_provider_mps.hooks.mps import MpsHook, make_hook
from airflow_provider_mps.links.text_to_speech import StoredObjectLink
from airflow_provider_mps.operators.submit import SubmitOperator
from airflow_provider_mps.operators.trial_audio import TrialAudio
from airflow_provider_mps.redaction import mask_signed_url, quote_value
from airflow_provider_mps.speech.parsing import OnUnknown, parse_choice
from airflow_provider_mps.speech.voices import IfExists
from airflow_provider_mps.storage.deadline import DEFAULT_TRANSFER_TIMEOUT_SECONDS
from airflow_provider_mps.version_compat import LiteralMappedValuesMixin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_mps.durable.clone import DurableClone
    from airflow_provider_mps.durable.submit import SubmitKind
    from airflow_provider_mps.speech.task import MpsTask
    from airflow_provider_mps.speech.voices import Voice, VoiceDesignRequest
    from airflow_provider_mps.triggers.task import TaskTrigger


VOICE_FIELDS = ("description", "gender", "age", "languages", "labels", "scenes")
"""Arguments that describe the new voice."""


class CloneVoiceOperator(LiteralMappedValuesMixin, BaseOperator):
    """
    Clone a voice from a sample, and return its VoiceId.

    An account holds 100 cloned and designed voices by default, so a retry must not make another one. The operator
    first looks for a clone of this name. After an unknown outcome, e.g. a timeout or a killed worker, it looks for the
    voice that MPS may have made. From Airflow 3.3, a record in the task state store identifies that voice.
    It pushes the XComs ``VoiceId`` and, if there is a trial audio, ``AudioUrl``; with ``trial_destination``, also
    ``trial_audio`` (the stored path) and ``duration`` (seconds). https://www.tencentcloud.com/document/api/1041/82312

    :param audio: 10 to 20 seconds of one speaker: an ``ObjectStoragePath`` or a string of at most 7 MiB, or an http(s)
        URL from which MPS downloads the sample (templated)
    :param name: name of the voice; several voices can have the same name (templated)
    :param audio_lang: language of the sample, e.g. ``en``; default of MPS: Chinese (templated)
    :param description: free text (templated)
    :param gender: ``male``, ``female`` or ``unknown`` (templated)
    :param age: ``child``, ``teenager``, ``youth``, ``middle_aged``, ``senior`` or ``unknown`` (templated)
    :param languages: languages of the voice: a list, or a text with commas (templated)
    :param labels: a list, or a text with commas (templated)
    :param scenes: a list, or a text with commas (templated)
    :param trial_text: text of at most 500 characters that the new voice speaks as a trial (templated)
    :param trial_destination: where to store the trial audio, e.g. ``s3://conn@bucket/ann.wav``; a string that ends in
        ``/`` is a folder. Needs ``trial_text`` (templated)
    :param if_exists: if a clone of this name exists: ``reuse`` it, ``fail``, or ``create`` another one
    :param durable: ``False``: keep no record. A retry then finds the voice only by its name, with
        ``if_exists="reuse"``. With another ``if_exists``, a failure after the request is not retried
    :param transfer_timeout: seconds for storing the trial audio, including attempts
    :param mps_conn_id: connection of type ``tencent_mps`` (templated)
    :param region: overrides the connection's region (templated)
    :raises InvalidRequestError: if an argument is invalid, e.g. the sample is not audio or too large; not retried
    :raises MpsApiError: if MPS did not make the voice
    :raises AirflowException: if it is unknown whether MPS made the voice; a retry looks for it
    """

    template_fields: Sequence[str] = (
        "audio",
        "name",
        "audio_lang",
        *VOICE_FIELDS,
        "trial_text",
        "trial_destination",
        "mps_conn_id",
        "region",
    )
    operator_extra_links = (StoredObjectLink(),)
    ui_color = "#e4ecf7"

    def __init__(
        self,
        *,
        audio: str | ObjectStoragePath,
        name: str,
        audio_lang: str | None = None,
        description: str | None = None,
        gender: str | None = None,
        age: str | None = None,
        languages: Sequence[str] | str | None = None,
        labels: Sequence[str] | str | None = None,
        scenes: Sequence[str] | str | None = None,
        trial_text: str | None = None,
        trial_destination: str | ObjectStoragePath | None = None,
        if_exists: Literal["reuse", "fail", "create"] = "reuse",
        durable: bool = True,
        transfer_timeout: float = DEFAULT_TRANSFER_TIMEOUT_SECONDS,
        mps_conn_id: str = MpsHook.default_conn_name,
        region: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.audio = audio
        self.name = name
        self.audio_lang = audio_lang
        self.description = description
        self.gender = gender
        self.age = age
        self.languages = languages
        self.labels = labels
        self.scenes = scenes
        self.trial_text = trial_text
        self.trial_destination = trial_destination
        self.if_exists = parse_choice(IfExists, if_exists)
        self.durable = durable
        self.transfer_timeout = transfer_timeout
        self.mps_conn_id = mps_conn_id
        self.region = region
        self._clone: DurableClone | None = None
        self._trial: TrialAudio | None = None
        self.stored_at: ObjectStoragePath | None = None

    @cached_property
    def hook(self) -> MpsHook:
        """The hook, kept while this task runs."""
        return make_hook(self)

    def _do_render_template_fields(self, *args: Any, **kwargs: Any) -> None:
        super()._do_render_template_fields(*args, **kwargs)
        # Before Airflow stores the rendered fields, which the UI shows.
        mask_signed_url(self.audio if isinstance(self.audio, str) else None)

    def execute(self, context: Context) -> str:
        """Return the VoiceId of an existing or a new clone, and store its trial audio if requested."""
        from airflow_provider_mps.durable.clone import DurableClone
        from airflow_provider_mps.hooks.voices import make_clone_request

        trial = self._trial = TrialAudio(self.trial_destination, self.transfer_timeout, self.trial_text, self.log)
        fields = {field: getattr(self, field) for field in VOICE_FIELDS}
        request = make_clone_request(self.audio, self.name, self.audio_lang, self.trial_text, **fields)
        clone = self._clone = DurableClone(self.hook, context, self.if_exists, self.log, durable=self.durable)
        if self.durable and not clone.has_store and self.if_exists is not IfExists.REUSE:
            self.log.info(
                "This Airflow has no task state store, which needs 3.3 or later: only if_exists='reuse' finds the "
                "voice of an earlier attempt"
            )
        with clone.prevent_second_voice():
            voice = clone.run(request)
            self.stored_at = trial.push(context, self.hook, voice.voice_id, voice.audio_url, voice.duration)
        return voice.voice_id

    def on_kill(self) -> None:
        """Send no request any more, and cancel the transfer."""
        if self._clone is not None:
            self._clone.cancel()
            if self._clone.pending_description:
                self.log.warning("%s, which counts towards the account's limit", self._clone.pending_description)
        if self._trial is not None:
            self._trial.cancel()


class DesignVoiceOperator(SubmitOperator):
    """
    Design a voice from a description, wait for it, and return its VoiceId.

    An account holds 100 cloned and designed voices by default, so a request is retried only if MPS provably did not
    accept it, as for texts: from Airflow 3.3, a retry reconnects to the same task of MPS. The ``TaskId`` is pushed as
    the XCom ``TaskId`` before any waiting, and ``VoiceId`` and ``AudioUrl`` afterwards; with ``trial_destination``,
    also ``trial_audio`` (the stored path) and ``duration`` (seconds).
    https://www.tencentcloud.com/document/api/1041/79694

    :param prompt: what the voice sounds like, e.g. ``A deep, calm male voice for documentaries`` (templated)
    :param name: name of the voice; several voices can have the same name (templated)
    :param description: free text (templated)
    :param gender: ``male``, ``female`` or ``unknown`` (templated)
    :param age: ``child``, ``teenager``, ``youth``, ``middle_aged``, ``senior`` or ``unknown`` (templated)
    :param languages: languages of the voice: a list, or a text with commas (templated)
    :param labels: a list, or a text with commas (templated)
    :param scenes: a list, or a text with commas (templated)
    :param trial_text: text of at most 500 characters that the new voice speaks as a trial (templated)
    :param trial_destination: where to store the trial audio, e.g. ``s3://conn@bucket/ann.wav``; a string that ends in
        ``/`` is a folder. Needs ``trial_text`` (templated)
    :param if_exists: if a design of this name exists: ``reuse`` it, ``fail``, or ``create`` another one
    :param deferrable: wait in the triggerer; the default is Airflow's ``[operators] default_deferrable``
    :param poll_interval: seconds between two polls; longer if the connection's rate limit requires it
    :param durable: ``False``: keep no record, so that each attempt and each clear submits again, unless ``if_exists``
        finds the voice
    :param on_unknown: if it is unknown whether MPS accepted the design: ``fail`` without a retry, or ``resubmit`` in
        the next attempt, which may make two voices
    :param transfer_timeout: seconds for storing the trial audio, including attempts
    :param mps_conn_id: connection of type ``tencent_mps`` (templated)
    :param region: overrides the connection's region (templated)
    :raises InvalidRequestError: if an argument is invalid; nothing was submitted; not retried
    :raises MpsApiError: if MPS did not accept the design
    :raises AirflowFailException: if it is unknown whether MPS accepted the design; with ``on_unknown="resubmit"`` an
        ``AirflowException``, which Airflow retries
    :raises VoiceDesignTaskFailed: if MPS failed the design; not retried
    """

    template_fields: Sequence[str] = (
        "prompt",
        "name",
        *VOICE_FIELDS,
        "trial_text",
        "trial_destination",
        "mps_conn_id",
        "region",
    )
    operator_extra_links = (StoredObjectLink(),)
    ui_color = "#e4ecf7"

    def __init__(
        self,
        *,
        prompt: str,
        name: str,
        description: str | None = None,
        gender: str | None = None,
        age: str | None = None,
        languages: Sequence[str] | str | None = None,
        labels: Sequence[str] | str | None = None,
        scenes: Sequence[str] | str | None = None,
        trial_text: str | None = None,
        trial_destination: str | ObjectStoragePath | None = None,
        if_exists: Literal["reuse", "fail", "create"] = "reuse",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 10.0,
        durable: bool = True,
        on_unknown: Literal["fail", "resubmit"] = "fail",
        transfer_timeout: float = DEFAULT_TRANSFER_TIMEOUT_SECONDS,
        mps_conn_id: str = MpsHook.default_conn_name,
        region: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.prompt = prompt
        self.name = name
        self.description = description
        self.gender = gender
        self.age = age
        self.languages = languages
        self.labels = labels
        self.scenes = scenes
        self.trial_text = trial_text
        self.trial_destination = trial_destination
        self.if_exists = parse_choice(IfExists, if_exists)
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.durable = durable
        self.on_unknown = parse_choice(OnUnknown, on_unknown)
        self.transfer_timeout = transfer_timeout
        self.mps_conn_id = mps_conn_id
        self.region = region
        self._trial: TrialAudio | None = None
        self.stored_at: ObjectStoragePath | None = None

    def get_kind(self) -> SubmitKind[Any]:
        """Return what the operator submits."""
        from airflow_provider_mps.durable.submit import VOICE_DESIGN

        return VOICE_DESIGN

    def make_trigger(self, task_id: str, **arguments: Any) -> TaskTrigger:
        """Return the trigger that waits for the task."""
        from airflow_provider_mps.triggers.voices import VoiceDesignTaskTrigger

        return VoiceDesignTaskTrigger(task_id, **arguments)

    def execute(self, context: Context) -> str:
        """Submit, or reconnect to the task of an earlier attempt, or find an existing design; return the VoiceId."""
        from airflow_provider_mps.polling.intervals import PollInterval

        interval = PollInterval(self.poll_interval)
        submit = self.begin(context)
        with submit.prevent_double_billing():
            trial = self._make_trial()
            request = self._make_request()
            task = submit.reconnect(request)
            voice_id = task.voice_id if task is not None and submit.was_cleared else None
            # Not before a clear: MPS may list a new voice late.
            if voice_id is not None and self.hook.get_voice(voice_id) is None:
                self.log.warning("Voice %s of an earlier attempt was deleted, so it is not used", voice_id)
                task = None
            if task is None and (existing := self._find_existing(request)) is not None:
                self.stored_at = trial.push(context, self.hook, existing.voice_id, existing.audio_url, None)
                return existing.voice_id
            task_id = task.task_id if task else submit.submit(request)
            if "ti" in context:
                context["ti"].xcom_push(key="TaskId", value=task_id)
            if task is None or not task.is_done:
                task = self.wait(context, task_id, interval)
            return self.finish(context, task)

    def finish(self, context: Context, task: MpsTask) -> str:
        """Push the XComs, store the trial audio if requested, and return the VoiceId."""
        if task.voice_id is None:
            raise AirflowException(
                f"MPS reported success for task {task.task_id} without a VoiceId (RequestId {task.request_id}). Try "
                "again later; if this error persists, give Tencent's support the RequestId."
            )
        trial = self._make_trial()
        self.stored_at = trial.push(context, self.hook, task.voice_id, task.audio_url, task.duration)
        return task.voice_id

    def on_kill(self) -> None:
        """Send no request any more, and cancel the transfer."""
        super().on_kill()
        if self._trial is not None:
            self._trial.cancel()

    def _make_trial(self) -> TrialAudio:
        self._trial = TrialAudio(self.trial_destination, self.transfer_timeout, self.trial_text, self.log)
        return self._trial

    def _make_request(self) -> VoiceDesignRequest:
        from airflow_provider_mps.speech.voices import VoiceDesignRequest

        fields = {field: getattr(self, field) for field in VOICE_FIELDS}
        return VoiceDesignRequest.from_arguments(self.prompt, self.name, self.trial_text, **fields)

    def _find_existing(self, request: VoiceDesignRequest) -> Voice | None:
        from airflow_provider_mps.speech.voices import choose_existing

        name = request.profile["Name"]
        if self.if_exists is IfExists.CREATE:
            return None
        designs = [voice for voice in self.hook.list_voices("design", name=name) if voice.name == name]
        voice = choose_existing(name, designs, self.if_exists)
        if voice is not None:
            self.log.info("Voice %r exists and has the VoiceId %s: nothing was submitted", name, voice.voice_id)
        return voice


class DeleteVoiceOperator(LiteralMappedValuesMixin, BaseOperator):
    """
    Delete a cloned or designed voice, and return its VoiceId; ``None`` if there was nothing to delete.

    A voice that does not exist is a success, and so is an argument that renders to an empty text or to ``None``. So
    the operator can be a teardown that runs twice, or whose setup has failed.
    https://www.tencentcloud.com/document/api/1041/79695

    :param voice_id: ``VoiceId`` of the voice (templated)
    :param voice_name: exact name of the voice, in place of ``voice_id`` (templated)
    :param mps_conn_id: connection of type ``tencent_mps`` (templated)
    :param region: overrides the connection's region (templated)
    :raises InvalidRequestError: if both arguments are given, several voices have the name, or the voice is one of
        Tencent's; nothing was deleted; not retried. The constructor raises it if neither argument is given
    :raises MpsApiError: if MPS did not delete the voice
    """

    template_fields: Sequence[str] = ("voice_id", "voice_name", "mps_conn_id", "region")
    ui_color = "#e4ecf7"

    def __init__(
        self,
        *,
        voice_id: str | None = None,
        voice_name: str | None = None,
        mps_conn_id: str = MpsHook.default_conn_name,
        region: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.voice_id = voice_id
        self.voice_name = voice_name
        self.mps_conn_id = mps_conn_id
        self.region = region
        if voice_id is None and voice_name is None:
            raise InvalidRequestError(f"Task '{self.task_id}': set voice_id or voice_name; nothing was deleted.")

    @cached_property
    def hook(self) -> MpsHook:
        """The hook, kept while this task runs."""
        return make_hook(self)

    def execute(self, context: Context) -> str | None:
        """Look for the voice, check that it is not one of Tencent's, and delete it."""
        voice_id, voice_name = (_drop_missing(value) for value in (self.voice_id, self.voice_name))
        if voice_id is not None and voice_name is not None:
            raise InvalidRequestError("voice_id and voice_name are both given: nothing was deleted. Remove one.")
        if voice_id is None and voice_name is None:
            self.log.info("voice_id and voice_name are empty, e.g. because the setup failed: nothing to delete")
            return None
        voice = self._find(voice_id, voice_name)
        if voice is None:
            self.log.info("There is no voice %r: nothing to delete", voice_id or voice_name)
            return None
        if voice.is_system:
            raise InvalidRequestError(
                f"Voice {quote_value(voice.name)} ({quote_value(voice.voice_id, 200)}) is one of Tencent's: nothing "
                "was deleted. Only cloned and designed voices can be deleted."
            )
        try:
            self.hook.delete_voice(voice.voice_id)
        except MpsPermanentError:
            if self.hook.get_voice(voice.voice_id) is not None:
                raise
            self.log.info("Voice %s was deleted meanwhile", voice.voice_id)
        else:
            self.log.info("Deleted voice %r with the VoiceId %s", voice.name, voice.voice_id)
        return voice.voice_id

    def _find(self, voice_id: Any, voice_name: Any) -> Voice | None:
        from airflow_provider_mps.speech.voices import find_exact_name, parse_voice_name

        if voice_id is not None:
            return self.hook.get_voice(voice_id)
        name = parse_voice_name(voice_name)
        voices = self.hook.list_voices(name=name)
        # A voice of Tencent may have the same name, and CloneVoiceOperator accepts such a name.
        own = find_exact_name(name, [voice for voice in voices if not voice.is_system])
        return own or find_exact_name(name, voices)


def _drop_missing(value: Any) -> Any:
    """Return ``None`` for an empty text, or for the text ``None``, which a template renders for a missing XCom."""
    return None if isinstance(value, str) and value.strip() in {"", "None"} else value
