"""Submit a text once over all attempts of a task, with the help of Airflow's task state store."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred

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
    from collections.abc import Iterator

    from airflow_provider_mps.hooks.mps import MpsHook
    from airflow_provider_mps.speech_request import SpeechRequest
    from airflow_provider_mps.submission import StateStore
    from airflow_provider_mps.text_to_speech import TextToSpeechTask


class DurableSubmit:
    """
    One task instance's submit, over all of its attempts.

    :param hook: submits, and queries what was submitted
    :param store: Airflow's task state store; ``None`` remembers nothing
    :param max_tries: of the task instance now
    :param on_unknown: what to do if it is unknown whether MPS has accepted the text
    :param log: the task's
    :param try_number: of the attempt now, from 1; 0 if it is unknown
    """

    def __init__(
        self,
        hook: MpsHook,
        store: StateStore | None,
        max_tries: int,
        on_unknown: OnUnknown,
        log: Any,
        *,
        try_number: int = 0,
    ) -> None:
        self._hook = hook
        self._store = store
        self._max_tries = max_tries
        self._on_unknown = on_unknown
        self._log = log
        self._try_number = try_number
        self._sending: Submission | None = None
        self._accepted: str | None = None
        self.goes_on: str | None = None
        """What MPS works at, or may: the beginning of a sentence."""

    def reconnect(self, request: SpeechRequest) -> TextToSpeechTask | None:
        """
        Return the task that an earlier attempt has submitted, as it is now; ``None`` where a text is to be submitted.

        :raises TextToSpeechTaskFailed: if MPS has failed the task, and no user has cleared this one since
        :raises AirflowFailException: if it is unknown whether the earlier attempt has submitted it
        :raises MpsApiError: if MPS does not describe the task
        """
        earlier = Submission.recalled(self._store) if self._store else None
        if earlier is None:
            return None
        fingerprint = self._fingerprint(request)
        step = first_step(earlier, fingerprint, self._max_tries, self._on_unknown, try_number=self._try_number)
        if step is Step.GIVE_UP:
            raise AirflowFailException(
                f"An earlier attempt of this task ended after {earlier.sent_at} while it submitted a text: it is "
                "unknown whether MPS accepted it, so it was not submitted again. Look into MPS's console; clear the "
                "task to submit again, which may be billed twice, or set on_unknown='resubmit'."
            )
        if step is Step.SUBMIT:
            self._log.warning("Submitting again: %s", _reason(earlier))
            return None
        self.goes_on = f"Task {earlier.task_id}"
        task = self._as_it_is_now(earlier)
        if task is not None and self._store:
            # A retry of this attempt must not take the clear before it for one of its own.
            replace(earlier, max_tries=self._max_tries, has_ended=False).remember(self._store)
        return task

    def submit(self, request: SpeechRequest) -> str:
        """
        Submit, and return the ``TaskId``; remember both that it begins and how it ends.

        :raises AirflowException: if the outcome is unknown, and a retry may submit again
        :raises AirflowFailException: if the outcome is unknown, and no retry may
        :raises MpsApiError: if MPS has not accepted it
        """
        self._hook.get_conn()  # what fails here, in whatever way, fails before anything could be sent
        fingerprint = self._fingerprint(request)
        self._hook.submit_attempt = lambda: self._recorded(fingerprint)
        try:
            task_id = self._hook.submit_text_to_speech(
                request.text, request.voice_id, request.text_lang, request.ext_param
            )
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # If Airflow ends this attempt, the next one finds what was recorded.
            if self._sending and (isinstance(error, MpsApiError) or self._may_pay_again):
                raise self._unknown(error, self._sending.sent_at) from error
            raise
        self.goes_on, self._accepted = f"Task {task_id}", task_id
        if self._store and self._sending:
            try:
                replace(self._sending, task_id=task_id).remember(self._store)
            except Exception as error:  # noqa: BLE001 - it is billed, and continues; only another attempt is affected
                self._log.error("Task %s was accepted, but Airflow could not store its id: %s", task_id, error)
        return task_id

    @property
    def _may_pay_again(self) -> bool:
        """Whether a retry would submit again, which the user has not chosen."""
        return self._store is None and self._on_unknown is OnUnknown.FAIL

    @contextmanager
    def _recorded(self, fingerprint: str) -> Iterator[None]:
        """Record that a request is sent; forget it if MPS provably did not accept it."""
        submission, earlier = Submission.beginning(fingerprint, self._max_tries), None
        if self._store:
            earlier = self._store.get(KEY)
            submission.remember(self._store)
        self.goes_on = f"What was sent at {submission.sent_at}, if MPS has accepted it,"
        self._sending = submission
        try:
            yield
        except (MpsApiError, InvalidMpsConnectionError) as error:
            if not isinstance(error, MpsApiError) or error.error_class is not ErrorClass.OUTCOME_UNKNOWN:
                self._forget(earlier)
            raise

    @contextmanager
    def concluded(self, accepted: str | None = None) -> Iterator[None]:
        """
        Keep a retry, or what looks like one, from submitting again what MPS has accepted.

        If what is inside fails permanently, this is stored: only a *clear* can follow, and it cannot always be
        recognised later, e.g. if ``retries`` was lowered. (After a success, Airflow may still retry: it pushes the XCom
        then.) Without a store, no failure may be retried any more.

        :param accepted: the ``TaskId``, if an earlier process of this attempt has submitted
        :raises AirflowFailException: in place of an error that Airflow would retry, where there is no store
        """
        self._accepted = accepted
        try:
            yield
        except AirflowFailException:
            self._conclude()
            raise
        except (TaskDeferred, KeyboardInterrupt):
            raise
        except BaseException as error:
            if self._store or not self._accepted:
                raise
            self._log.warning("Task %s goes on at MPS, and may be billed", self._accepted, exc_info=error)
            raise AirflowFailException(
                f"This attempt failed ({type(error).__name__}) after MPS had accepted task {self._accepted}. It is not "
                "retried, for nothing has remembered the task: a clear submits again, which is billed. A "
                "TextToSpeechTaskSensor with this id waits for it."
            ) from error

    def _conclude(self) -> None:
        if not self._store:
            return
        try:
            submission = Submission.recalled(self._store)
            if submission is not None and not submission.has_ended:
                replace(submission, has_ended=True).remember(self._store)
        except Exception as error:  # noqa: BLE001 - it must not hide how the task has ended
            self._log.warning("Airflow could not store that this attempt has ended: %s", error)

    def _as_it_is_now(self, earlier: Submission) -> TextToSpeechTask | None:
        task_id, was_cleared = str(earlier.task_id), earlier.was_cleared(self._max_tries, self._try_number)
        try:
            task = self._hook.describe_text_to_speech_task(task_id)
        except MpsPermanentError as error:
            if not was_cleared or disproves_connection(error.code):
                raise
            self._log.warning("Submitting again: MPS no longer knows task %s, submitted earlier: %s", task_id, error)
            return None
        if task.status is TaskStatus.FAIL:
            if not was_cleared:
                task.is_ready()  # raises: a retry must not pay again for what MPS fails
            self._log.warning(
                "Submitting again: MPS has failed task %s, submitted earlier: ErrorCode %s: %s (RequestId %s)",
                task_id,
                task.error_code,
                task.message,
                task.request_id,
            )
            return None
        self._log.info(
            "Reconnected to task %s, which an earlier attempt of this task has submitted: %s (RequestId %s). Nothing "
            "was submitted again; durable=False would",
            task_id,
            task.status.value,
            task.request_id,
        )
        return task

    def _forget(self, earlier: object) -> None:
        """Let another attempt submit, since nothing was accepted; what was stored before is stored again."""
        self.goes_on = self._sending = None
        if self._store:
            try:
                if earlier is None:
                    self._store.delete(KEY)
                else:
                    self._store.set(KEY, earlier)
            except Exception as error:  # noqa: BLE001 - what was raised by MPS is the error to report
                self._log.error("Airflow could not forget a submit that MPS did not accept, clear the task: %s", error)

    def _unknown(self, error: BaseException, sent_at: str) -> AirflowException:
        """Return what to raise so that no text is billed twice unless the user chose to risk it."""
        reason = str(error) if isinstance(error, MpsApiError) else f"The attempt was ended ({type(error).__name__})."
        request_id = getattr(error, "request_id", "") or "none was given"
        message = (
            f"{reason} It is unknown whether MPS accepted this text, sent at {sent_at} "
            f"(RequestId {request_id}): it may be billed already. It was not submitted again"
        )
        if self._on_unknown is OnUnknown.RESUBMIT:
            return AirflowException(f"{message} in this attempt; a retry does, as on_unknown='resubmit' says.")
        return AirflowFailException(
            f"{message}, and no retry will. Look into MPS's console, then clear the task to submit it again."
        )

    def _fingerprint(self, request: SpeechRequest) -> str:
        return request.fingerprint(self._hook.mps_conn_id, self._hook.region or None)


def _reason(earlier: Submission) -> str:
    """Return why a text is submitted again, for the log."""
    if earlier.task_id is None:
        return f"it is unknown whether MPS accepted what was sent at {earlier.sent_at}, which may be billed twice"
    return (
        f"the arguments have changed since an earlier attempt; task {earlier.task_id} goes on at MPS, and may be billed"
    )
