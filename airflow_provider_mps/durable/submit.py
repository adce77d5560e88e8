"""Submit a text, or the design of a voice, once over all attempts of a task."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider_mps.api.actions import make_describe_call
from airflow_provider_mps.api.voice_actions import make_describe_design_call
from airflow_provider_mps.durable.record import STATE_KEY, SubmitDecision, SubmitRecord, decide
from airflow_provider_mps.durable.request import DurableRequest
from airflow_provider_mps.error_codes import FIND_TASK_ADVICE, is_connection_error
from airflow_provider_mps.exceptions import (
    MpsApiError,
    MpsPermanentError,
    MpsTaskFailed,
)
from airflow_provider_mps.speech.parsing import OnUnknown
from airflow_provider_mps.speech.task import TextToSpeechTask, VoiceDesignTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_provider_mps.api.actions import ApiCall
    from airflow_provider_mps.hooks.mps import MpsHook
    from airflow_provider_mps.speech.request import SpeechRequest
    from airflow_provider_mps.speech.task import MpsTask
    from airflow_provider_mps.speech.voices import VoiceDesignRequest

VOICE_DESIGN_STATE_KEY = "mps_voice_design"


class Request(Protocol):
    """What a task submits."""

    def fingerprint(self, *account: str | None) -> str:
        """Return a digest that is equal only for the same request with the same connection id and region."""


R = TypeVar("R", bound=Request)


@dataclass(frozen=True)
class SubmitKind(Generic[R]):
    """What differs between texts and designs of voices."""

    noun: str
    """What is submitted, for logs and errors."""
    state_key: str
    """Key of the record in the task state store. Running tasks have stored it, so it must not change."""
    submit: Callable[[MpsHook, R], str]
    """Submits a request and returns the ``TaskId``."""
    describe: Callable[[MpsHook, str], MpsTask]
    make_call: Callable[[str], ApiCall[MpsTask]]
    """Makes the call that queries a task, for the poller."""
    task_class: type[MpsTask]
    second_submit: str
    """What a second submit of the same request does."""
    adopt_advice: str
    """How to use the MPS task without submitting again."""
    not_retried: str
    """Why a failure after the submit is not retried, and what to do instead."""


TEXT: SubmitKind[SpeechRequest] = SubmitKind(
    noun="text",
    state_key=STATE_KEY,
    submit=lambda hook, request: hook.submit_text_to_speech(
        request.text, request.voice_id, request.text_lang, request.ext_param
    ),
    describe=lambda hook, task_id: hook.describe_text_to_speech_task(task_id),
    make_call=make_describe_call,
    task_class=TextToSpeechTask,
    adopt_advice=f"{FIND_TASK_ADVICE}: if so, pass its TaskId to a wait and a store task (mps_task_id)",
    second_submit="may be billed twice",
    not_retried="It is not retried, because Airflow has no record of the MPS task: a clear submits again, which is "
    "billed again. Wait for the MPS task with a TextToSpeechTaskSensor instead.",
)
VOICE_DESIGN: SubmitKind[VoiceDesignRequest] = SubmitKind(
    noun="voice design",
    state_key=VOICE_DESIGN_STATE_KEY,
    submit=lambda hook, request: hook.submit_design(request),
    describe=lambda hook, task_id: hook.describe_voice_design(task_id),
    make_call=make_describe_design_call,
    task_class=VoiceDesignTask,
    adopt_advice="Find out whether the account has the voice (MpsHook.list_voices): if so, a clear with "
    "if_exists='reuse' returns it",
    second_submit="may make a second voice",
    not_retried="It is not retried, because Airflow has no record of the MPS task: a clear submits again, which "
    "may make a second voice. Get the VoiceId with MpsHook.find_voice instead.",
)


class DurableSubmit(DurableRequest, Generic[R]):
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
        super().__init__(kind.state_key, kind.noun, hook, context, log, durable=durable)
        self._kind = kind
        self._on_unknown = on_unknown
        self.was_cleared = False
        """Whether a user has cleared the task since the record was made."""

    @property
    def pending_description(self) -> str | None:
        """What MPS is working on, or may be, as the subject of a sentence; ``None`` if nothing was accepted."""
        if self._pending is None:
            return None
        sent_at, task_id = self._pending.sent_at, self._pending.task_id
        return f"Task {task_id}" if task_id else f"The {self._kind.noun} sent at {sent_at}, if MPS accepted it,"

    def has_accepted(self, request: R) -> bool:
        """Return whether an earlier attempt has submitted this request, so that this one can reconnect to its task."""
        earlier = SubmitRecord.load(self._store, self._key)
        return earlier is not None and bool(earlier.task_id) and earlier.fingerprint == self._fingerprint(request)

    @property
    def recorded_voice_id(self) -> str | None:
        """The VoiceId that the ``voice_name`` of an earlier attempt had."""
        earlier = SubmitRecord.load(self._store, self._key)
        return earlier.voice_id if earlier else None

    def reconnect(self, request: R) -> MpsTask | None:
        """
        Return the current state of the task that an earlier attempt submitted; ``None`` if this attempt must submit.

        :raises MpsTaskFailed: if MPS failed its task, and no user has cleared the Airflow task since
        :raises AirflowFailException: if it is unknown whether MPS accepted the earlier submit
        :raises MpsApiError: if the query fails
        """
        earlier = SubmitRecord.load(self._store, self._key)
        if earlier is None:
            return None
        was_cleared = self.was_cleared = earlier.was_cleared(self._max_tries, self._try_number)
        decision = decide(earlier, self._fingerprint(request), self._on_unknown, was_cleared=was_cleared)
        noun = self._kind.noun
        if decision is SubmitDecision.FAIL:
            raise AirflowFailException(
                f"An earlier attempt ended after {earlier.sent_at}, while it submitted a {noun}. It is unknown whether "
                f"MPS accepted the {noun}, so it was not submitted again: a second submit "
                f"{self._kind.second_submit}. "
                f"{self._kind.adopt_advice}; if not, clear the task or set on_unknown='resubmit' to submit again."
            )
        if decision is SubmitDecision.SUBMIT:
            self._log.warning("Submitting again: %s", _resubmit_reason(earlier, self._kind))
            return None
        self._pending, task_id = earlier, str(earlier.task_id)
        try:
            task = self._kind.describe(self._hook, task_id)
            task.raise_for_status()
        except (MpsPermanentError, MpsTaskFailed) as error:
            # MPS would bill a resubmit of a text that it fails, so only a clear submits it again.
            if not was_cleared or (isinstance(error, MpsPermanentError) and is_connection_error(error.code)):
                raise
            self._log.warning("Submitting again after a clear: %s", error)
            return None
        self._log.info(
            "Reconnected to task %s of an earlier attempt: %s (RequestId %s). Nothing was submitted again",
            task_id,
            task.status.value,
            task.request_id,
        )
        # Otherwise, a retry of this attempt would count the earlier clear as a new one.
        replace(earlier, max_tries=self._max_tries, has_ended=False).save(self._store, self._key)
        return task

    def submit(self, request: R, found_voice_id: str | None = None) -> str:
        """
        Submit, and return the ``TaskId``; record the start and the outcome.

        :param found_voice_id: the VoiceId that was looked up for the request's ``voice_name``
        :raises AirflowException: if the outcome is unknown, and a retry may submit again
        :raises AirflowFailException: if the outcome is unknown, and no retry may submit again
        :raises MpsApiError: if MPS did not accept the request
        """
        self._pending = None
        self._hook.get_conn()  # so that its errors are raised before anything can be sent
        fingerprint = self._fingerprint(request)

        def start() -> SubmitRecord:
            return replace(SubmitRecord.start(fingerprint, self._max_tries), voice_id=found_voice_id)

        self._hook.submit_attempt = lambda: self.record_request(start())
        try:
            task_id = self._kind.submit(self._hook, request)
        except BaseException as error:
            # If Airflow ends the attempt here, the next attempt finds the record; without a store, it would resubmit.
            must_translate = isinstance(error, MpsApiError) or (not self._store and self._on_unknown is OnUnknown.FAIL)
            if self._pending is None or not must_translate or isinstance(error, KeyboardInterrupt):
                raise
            raise self._make_unknown_error(error, self._pending.sent_at) from error
        self._pending = replace(self._pending or start(), task_id=task_id)
        if self._store:
            try:
                self._pending.save(self._store, self._key)
            except Exception as error:  # noqa: BLE001 - the task is billed; only a later attempt needs its id
                self._log.error("MPS accepted task %s, but Airflow could not store its id: %s", task_id, error)
        return task_id

    @contextmanager
    def prevent_double_billing(self, task_id: str | None = None) -> Iterator[None]:
        """
        Keep a retry from submitting again what MPS has accepted.

        With a store, a permanent failure is recorded, after which only a clear can follow. ``max_tries`` alone does not
        always show a clear, e.g. if ``retries`` was lowered. A success is not recorded: Airflow pushes the XCom
        afterwards, and may still retry. Without a store, each failure after MPS has accepted it is permanent.

        :param task_id: the ``TaskId``, if an earlier process of this attempt has submitted
        :raises AirflowFailException: in place of an error that Airflow would retry, if there is no store
        """
        try:
            yield
        except AirflowFailException:
            self.record_end()
            raise
        except BaseException as error:
            accepted = task_id or (self._pending and self._pending.task_id)
            if self._store or not accepted or isinstance(error, TaskDeferred | KeyboardInterrupt):
                raise
            self._log.warning("Task %s continues at MPS and may be billed", accepted, exc_info=error)
            raise AirflowFailException(
                f"This attempt failed ({type(error).__name__}) after MPS had accepted task {accepted}. "
                f"{self._kind.not_retried}"
            ) from error

    def _make_unknown_error(self, error: BaseException, sent_at: str) -> AirflowException:
        """Return an error that Airflow retries only if the user has chosen to risk double billing."""
        reason = (
            error.describe() if isinstance(error, MpsApiError) else f"The attempt was ended ({type(error).__name__})."
        )
        unknown = f"It is unknown whether MPS accepted the {self._kind.noun} sent at {sent_at}"
        risk = "it may already be billed" if self._kind is TEXT else "MPS may make the voice"
        message = f"{reason} {unknown}: {risk}"
        if self._on_unknown is OnUnknown.RESUBMIT:
            return AirflowException(f"{message}. A retry submits it again, as on_unknown='resubmit' requests.")
        return AirflowFailException(
            f"{message}, and is not retried. {self._kind.adopt_advice}; if not, clear the task to submit it again."
        )

    def _fingerprint(self, request: R) -> str:
        return request.fingerprint(self._hook.mps_conn_id, self._hook.region or None)


def _resubmit_reason(earlier: SubmitRecord, kind: SubmitKind[Any]) -> str:
    if earlier.task_id is None:
        return (
            f"it is unknown whether MPS accepted the {kind.noun} sent at {earlier.sent_at}; a second submit "
            f"{kind.second_submit}"
        )
    return f"the arguments have changed; the earlier task {earlier.task_id} continues at MPS and may be billed"
