"""Submit a text once: go on with what an earlier try has submitted, and remember what this one does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_mps.choice import OnUnknown
from airflow_provider_mps.errors import (
    ErrorClass,
    InvalidMpsConnectionError,
    MpsApiError,
    MpsPermanentError,
    disproves_connection,
)
from airflow_provider_mps.submission import KEY, Step, Submission, first_step
from airflow_provider_mps.text_to_speech import TaskStatus

if TYPE_CHECKING:
    from airflow_provider_mps.hooks.mps import MpsHook
    from airflow_provider_mps.speech_request import SpeechRequest
    from airflow_provider_mps.submission import StateStore
    from airflow_provider_mps.text_to_speech import TextToSpeechTask


class DurableSubmit:
    """
    One task instance's submit, over all of its tries.

    :param hook: submits, and asks for what was submitted
    :param store: Airflow's task state store; ``None`` remembers nothing
    :param max_tries: of the task instance now
    :param on_unknown: what to do where nobody knows whether MPS has accepted the text
    :param log: the task's
    """

    def __init__(
        self, hook: MpsHook, store: StateStore | None, max_tries: int, on_unknown: OnUnknown, log: Any
    ) -> None:
        self._hook = hook
        self._store = store
        self._max_tries = max_tries
        self._on_unknown = on_unknown
        self._log = log
        self.goes_on: str | None = None
        """What MPS works at, or may: the beginning of a sentence."""

    def reconnect(self, request: SpeechRequest) -> TextToSpeechTask | None:
        """
        Return the task that an earlier try has submitted, as it is now; ``None`` where a text is to be submitted.

        :raises AirflowFailException: when nobody knows whether the earlier try has submitted it
        :raises MpsApiError: when MPS does not tell of the task
        """
        earlier = Submission.recalled(self._store) if self._store else None
        if earlier is None:
            return None
        fingerprint = self._fingerprint(request)
        step = first_step(earlier, fingerprint, self._max_tries, self._on_unknown)
        if step is Step.GIVE_UP:
            raise AirflowFailException(
                f"An earlier try of this task was ended after {earlier.sent_at}, while it submitted this text: it is "
                "unknown whether MPS accepted it, so it was not submitted again. Look into MPS's console; clear the "
                "task to submit, and perhaps pay, anew, or set on_unknown='resubmit'."
            )
        if step is Step.SUBMIT:
            self._log.warning("Submitting anew: %s", _why_anew(earlier, fingerprint))
            return None
        self.goes_on = f"Task {earlier.task_id}"
        return self._as_it_is_now(str(earlier.task_id), was_cleared=self._max_tries != earlier.max_tries)

    def submit(self, request: SpeechRequest) -> str:
        """
        Submit, and return the ``TaskId``; remember both that it begins and how it ends.

        :raises AirflowException: when it is unknown whether MPS has accepted it, and a retry may submit it anew
        :raises AirflowFailException: when it is unknown, and none may
        :raises MpsApiError: when MPS has not accepted it
        """
        submission = Submission.beginning(self._fingerprint(request), self._max_tries)
        self._hook.get_conn()  # what fails here, in whatever way, fails before anything could be sent
        if self._store:
            submission.remember(self._store)
        self.goes_on = f"What was sent at {submission.sent_at}, if MPS has accepted it,"
        try:
            task_id = self._hook.submit_text_to_speech(
                request.text, request.voice_id, request.text_lang, request.ext_param
            )
        except (MpsApiError, InvalidMpsConnectionError) as error:
            if isinstance(error, MpsApiError) and error.error_class is ErrorClass.OUTCOME_UNKNOWN:
                raise self._unknown(error, submission.sent_at) from error
            self._forget()
            raise
        self.goes_on = f"Task {task_id}"
        if self._store:
            try:
                replace(submission, task_id=task_id).remember(self._store)
            except Exception as error:  # noqa: BLE001 - it is paid, and goes on; only another try would not know it
                self._log.error("Task %s was accepted, but Airflow could not store its id: %s", task_id, error)
        return task_id

    def _as_it_is_now(self, task_id: str, *, was_cleared: bool) -> TextToSpeechTask | None:
        try:
            task = self._hook.describe_text_to_speech_task(task_id)
        except MpsPermanentError as error:
            if not was_cleared or disproves_connection(error.code):
                raise
            self._log.warning("Submitting anew: MPS no longer tells of task %s, submitted earlier: %s", task_id, error)
            return None
        if task.status is TaskStatus.FAIL:
            self._log.warning(
                "Submitting anew: MPS has failed task %s, submitted earlier: ErrorCode %s: %s (RequestId %s)",
                task_id,
                task.error_code,
                task.message,
                task.request_id,
            )
            return None
        self._log.info(
            "Reconnected to task %s, which an earlier try of this task has submitted: %s (RequestId %s). Nothing was "
            "submitted again; durable=False would",
            task_id,
            task.status.value,
            task.request_id,
        )
        return task

    def _forget(self) -> None:
        """Nothing was accepted: let another try submit."""
        self.goes_on = None
        if self._store:
            try:
                self._store.delete(KEY)
            except Exception as error:  # noqa: BLE001 - what was raised by MPS is the error to report
                self._log.error("Airflow could not forget a submit that MPS did not accept, clear the task: %s", error)

    def _unknown(self, error: MpsApiError, sent_at: str) -> AirflowException:
        """Return what to raise so that nobody pays twice who did not choose to."""
        message = (
            f"{error} It is unknown whether MPS accepted this text, sent at {sent_at} "
            f"(RequestId {error.request_id or 'none was given'}): it may be billed already. It was not submitted again"
        )
        if self._on_unknown is OnUnknown.RESUBMIT:
            return AirflowException(f"{message} in this try; a retry submits it anew, as on_unknown='resubmit' says.")
        return AirflowFailException(
            f"{message}, and no retry will. Look into MPS's console, then clear the task to submit it anew."
        )

    def _fingerprint(self, request: SpeechRequest) -> str:
        return request.fingerprint(self._hook.mps_conn_id, self._hook.region or None)


def _why_anew(earlier: Submission, fingerprint: str) -> str:
    if earlier.fingerprint == fingerprint:
        return f"it is unknown whether MPS accepted what was sent at {earlier.sent_at}, which may be paid twice"
    task = f"task {earlier.task_id}" if earlier.task_id else f"what was sent at {earlier.sent_at}"
    return f"the arguments have changed since an earlier try; {task} goes on at MPS, and may be billed"
