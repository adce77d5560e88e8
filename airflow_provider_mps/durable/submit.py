"""Submit a text, or the design of a voice, once over all attempts of a task."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic

from airflow_provider_mps.api.actions import make_describe_call
from airflow_provider_mps.api.voice_actions import make_describe_design_call
from airflow_provider_mps.durable.billed import BilledRequest, R, Wording
from airflow_provider_mps.durable.record import STATE_KEY, SubmitDecision, SubmitRecord
from airflow_provider_mps.error_codes import FIND_TASK_ADVICE, is_connection_error
from airflow_provider_mps.exceptions import MpsPermanentError, MpsTaskFailed
from airflow_provider_mps.speech.task import TextToSpeechTask, VoiceDesignTask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_mps.api.actions import ApiCall
    from airflow_provider_mps.hooks.mps import MpsHook
    from airflow_provider_mps.speech.parsing import OnUnknown
    from airflow_provider_mps.speech.request import SpeechRequest
    from airflow_provider_mps.speech.task import MpsTask
    from airflow_provider_mps.speech.voices import VoiceDesignRequest

VOICE_DESIGN_STATE_KEY = "mps_voice_design"


@dataclass(frozen=True)
class SubmitKind(Generic[R]):
    """What differs between texts and designs of voices."""

    wording: Wording
    state_key: str
    """Key of the record in the task state store. Running tasks have stored it, so it must not change."""
    submit: Callable[[MpsHook, R], str]
    """Submits a request and returns the ``TaskId``."""
    describe: Callable[[MpsHook, str], MpsTask]
    make_call: Callable[[str], ApiCall[MpsTask]]
    """Makes the call that queries a task, for the poller."""
    task_class: type[MpsTask]


_TASK_WORDING: dict[str, Any] = {"accepted": "task %s", "state": "Task %s continues at MPS and may be billed"}
TEXT: SubmitKind[SpeechRequest] = SubmitKind(
    Wording(
        noun="text",
        risk="it may already be billed",
        second_submit="may be billed twice",
        before_clear=f"{FIND_TASK_ADVICE}: if so, pass its TaskId to a wait and a store task (mps_task_id); if not, ",
        not_retried="It is not retried, because Airflow has no record of the MPS task: a clear submits again, which is "
        "billed again. Wait for the MPS task with a TextToSpeechTaskSensor instead.",
        **_TASK_WORDING,
    ),
    state_key=STATE_KEY,
    submit=lambda hook, request: hook.submit_text_to_speech(
        request.text, request.voice_id, request.text_lang, request.ext_param
    ),
    describe=lambda hook, task_id: hook.describe_text_to_speech_task(task_id),
    make_call=make_describe_call,
    task_class=TextToSpeechTask,
)
VOICE_DESIGN: SubmitKind[VoiceDesignRequest] = SubmitKind(
    Wording(
        noun="voice design",
        risk="MPS may make the voice",
        second_submit="may make a second voice",
        before_clear="Find out whether the account has the voice (MpsHook.list_voices): if so, a clear with "
        "if_exists='reuse' returns it; if not, ",
        not_retried="It is not retried, because Airflow has no record of the MPS task: a clear submits again, which "
        "may make a second voice. Get the VoiceId with MpsHook.find_voice instead.",
        is_text=False,
        **_TASK_WORDING,
    ),
    state_key=VOICE_DESIGN_STATE_KEY,
    submit=lambda hook, request: hook.submit_design(request),
    describe=lambda hook, task_id: hook.describe_voice_design(task_id),
    make_call=make_describe_design_call,
    task_class=VoiceDesignTask,
)


class DurableSubmit(BilledRequest[R], Generic[R]):
    """
    The submit of one task instance, over all of its attempts.

    :param kind: what is submitted
    :param on_unknown: what to do if it is unknown whether MPS accepted the request
    :param durable: ``False``: keep no record
    """

    def __init__(
        self,
        kind: SubmitKind[R],
        hook: MpsHook,
        context: Mapping[str, Any],
        on_unknown: OnUnknown,
        log: Any,
        *,
        durable: bool = True,
    ) -> None:
        super().__init__(kind.state_key, kind.wording, hook, context, on_unknown, log, durable=durable)
        self._kind = kind

    @property
    def pending_description(self) -> str | None:
        """What MPS is working on, or may be, as the subject of a sentence; ``None`` if nothing was accepted."""
        if self._pending is None:
            return None
        sent_at, task_id = self._pending.sent_at, self._pending.task_id
        return f"Task {task_id}" if task_id else f"The {self._wording.noun} sent at {sent_at}, if MPS accepted it,"

    def reconnect(self, request: R) -> MpsTask | None:
        """
        Return the current state of the task that an earlier attempt submitted; ``None`` if this attempt must submit.

        :raises MpsTaskFailed: if MPS failed its task, and no user has cleared the Airflow task since
        :raises AirflowFailException: if it is unknown whether MPS accepted the earlier submit
        :raises MpsApiError: if the query fails
        """
        earlier: SubmitRecord | None = self._load()
        if earlier is None:
            return None
        if self._decide(earlier, request) is SubmitDecision.SUBMIT:
            self._log.warning("Submitting again: %s", _resubmit_reason(earlier, self._wording))
            return None
        self._pending, task_id = earlier, str(earlier.task_id)
        try:
            task = self._kind.describe(self._hook, task_id)
            task.raise_for_status()
        except (MpsPermanentError, MpsTaskFailed) as error:
            # MPS would bill a resubmit of a text that it fails, so only a clear submits it again.
            if not self.was_cleared or (isinstance(error, MpsPermanentError) and is_connection_error(error.code)):
                raise
            self._log.warning("Submitting again after a clear: %s", error)
            return None
        self._log.info(
            "Reconnected to task %s of an earlier attempt: %s (RequestId %s). Nothing was submitted again",
            task_id,
            task.status.value,
            task.request_id,
        )
        self._keep(earlier)
        return task

    def submit(self, request: R, found_voice_id: str | None = None) -> str:
        """
        Submit, and return the ``TaskId``; record the start and the outcome.

        :param found_voice_id: the VoiceId that was looked up for the request's ``voice_name``
        :raises AirflowException: if the outcome is unknown, and a retry may submit again
        :raises AirflowFailException: if the outcome is unknown, and no retry may submit again
        :raises MpsApiError: if MPS did not accept the request
        """
        fingerprint = self._fingerprint(request)

        def start() -> SubmitRecord:
            return replace(SubmitRecord.start(fingerprint, self._max_tries), voice_id=found_voice_id)

        task_id = self._send(start, lambda: self._kind.submit(self._hook, request))
        self._save_accepted(replace(self._pending or start(), task_id=task_id))
        return task_id


def _resubmit_reason(earlier: SubmitRecord, wording: Wording) -> str:
    if earlier.task_id is None:
        return (
            f"it is unknown whether MPS accepted the {wording.noun} sent at {earlier.sent_at}; a second submit "
            f"{wording.second_submit}"
        )
    return f"the arguments have changed; the earlier task {earlier.task_id} continues at MPS and may be billed"
