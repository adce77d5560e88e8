"""Submit a text once over all attempts of a task, with the help of Airflow's task state store."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider_mps.error_codes import FIND_TASK_ADVICE, ErrorClass, is_connection_error
from airflow_provider_mps.exceptions import (
    InvalidMpsConnectionError,
    MpsApiError,
    MpsPermanentError,
    TextToSpeechTaskFailed,
)
from airflow_provider_mps.speech.parsing import OnUnknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_provider_mps.hooks.mps import MpsHook
    from airflow_provider_mps.speech.request import SpeechRequest
    from airflow_provider_mps.speech.task import TextToSpeechTask

STATE_KEY = "mps_submission"
"""Key of the record in the task state store. Running tasks have stored it, so it must not change."""
NOT_RETRIED = (
    "It is not retried, because Airflow has no record of the MPS task: a clear submits again, which is billed again. "
    "Wait for the MPS task with a TextToSpeechTaskSensor instead."
)
ADOPT_TASK_ADVICE = f"{FIND_TASK_ADVICE}: if so, pass its TaskId to a wait and a store task (mps_task_id)"


@dataclass(frozen=True)
class SubmitRecord:
    """What the task state store holds about one submit, written just before the request is sent."""

    fingerprint: str
    """Fingerprint of the request, the connection and the region."""
    max_tries: int
    """``max_tries`` at that time. Only a clear changes it, but a clear after a change of ``retries`` may not."""
    sent_at: str
    """UTC, in ISO 8601."""
    task_id: str | None = None
    """``None`` until MPS has responded: if the attempt is killed before that, the outcome is unknown."""
    has_ended: bool = False
    """Whether the attempt failed permanently, so that Airflow does not retry it: only a clear can follow."""

    @classmethod
    def start(cls, fingerprint: str, max_tries: int) -> SubmitRecord:
        """Return the record of a request that is about to be sent."""
        return cls(fingerprint, max_tries, format_utc_now())

    @classmethod
    def load(cls, store: Any) -> SubmitRecord | None:
        """Return the record of an earlier attempt; ``None`` if there is no store or no readable record."""
        stored = store.get(STATE_KEY) if store else None
        if not isinstance(stored, dict):
            return None
        # A later version may have stored more fields.
        known = {field.name: stored[field.name] for field in fields(cls) if field.name in stored}
        try:
            return cls(**known)
        except TypeError:
            return None

    def save(self, store: Any) -> None:
        """Store the record for the next attempt."""
        store.set(STATE_KEY, asdict(self))

    def was_cleared(self, max_tries: int, try_number: int) -> bool:
        """Return whether a user has cleared the task since, by its current numbers (``try_number`` 0: unknown)."""
        return self.has_ended or max_tries != self.max_tries or try_number > self.max_tries + 1


class SubmitDecision(Enum):
    """What an attempt does first."""

    SUBMIT = auto()
    RECONNECT = auto()
    """Continue with the task that an earlier attempt submitted."""
    FAIL = auto()
    """An earlier attempt may have submitted, and submitting again may be billed twice."""


def decide(earlier: SubmitRecord, fingerprint: str, on_unknown: OnUnknown, *, was_cleared: bool) -> SubmitDecision:
    """Decide from the record of an ``earlier`` attempt, and from the ``fingerprint`` of the request now."""
    if earlier.task_id is None:
        # The fingerprint does not matter: a template with the current time renders differently in each attempt.
        can_resubmit = was_cleared or on_unknown is OnUnknown.RESUBMIT
        return SubmitDecision.SUBMIT if can_resubmit else SubmitDecision.FAIL
    return SubmitDecision.RECONNECT if earlier.fingerprint == fingerprint else SubmitDecision.SUBMIT


class DurableSubmit:
    """
    The submit of one task instance, over all of its attempts.

    Airflow's task state store (3.3 and later) keeps the record over retries. Airflow 3.3 keeps it over a clear, too;
    later versions may delete it then (apache/airflow#72100).

    :param on_unknown: what to do if it is unknown whether MPS accepted the text
    :param durable: ``False``: keep no record
    """

    def __init__(
        self, hook: MpsHook, context: Mapping[str, Any], on_unknown: OnUnknown, log: Any, *, durable: bool = True
    ) -> None:
        self._hook = hook
        self._store = context.get("task_state_store") if durable else None
        self._max_tries = get_max_tries(context)
        self._try_number = getattr(context.get("ti"), "try_number", None) or 0
        self._on_unknown = on_unknown
        self._log = log
        self._pending: SubmitRecord | None = None
        self._is_cancelled = False

    @property
    def has_store(self) -> bool:
        """Whether a later attempt can continue with what this one submits."""
        return self._store is not None

    @property
    def pending_description(self) -> str | None:
        """What MPS is working on, or may be, as the subject of a sentence; ``None`` if nothing was accepted."""
        if self._pending is None:
            return None
        sent_at, task_id = self._pending.sent_at, self._pending.task_id
        return f"Task {task_id}" if task_id else f"The text sent at {sent_at}, if MPS accepted it,"

    def reconnect(self, request: SpeechRequest) -> TextToSpeechTask | None:
        """
        Return the current state of the task that an earlier attempt submitted; ``None`` if this attempt must submit.

        :raises TextToSpeechTaskFailed: if MPS failed its task, and no user has cleared the Airflow task since
        :raises AirflowFailException: if it is unknown whether MPS accepted the earlier submit
        :raises MpsApiError: if the query fails
        """
        earlier = SubmitRecord.load(self._store)
        if earlier is None:
            return None
        was_cleared = earlier.was_cleared(self._max_tries, self._try_number)
        decision = decide(earlier, self._fingerprint(request), self._on_unknown, was_cleared=was_cleared)
        if decision is SubmitDecision.FAIL:
            raise AirflowFailException(
                f"An earlier attempt ended after {earlier.sent_at}, while it submitted a text. It is unknown whether "
                "MPS accepted the text, so it was not submitted again: a second submit may be billed twice. "
                f"{ADOPT_TASK_ADVICE}; if not, clear the task or set on_unknown='resubmit' to submit again."
            )
        if decision is SubmitDecision.SUBMIT:
            self._log.warning("Submitting again: %s", _resubmit_reason(earlier))
            return None
        self._pending, task_id = earlier, str(earlier.task_id)
        try:
            task = self._hook.describe_text_to_speech_task(task_id)
            task.raise_for_status()
        except (MpsPermanentError, TextToSpeechTaskFailed) as error:
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
        replace(earlier, max_tries=self._max_tries, has_ended=False).save(self._store)
        return task

    def submit(self, request: SpeechRequest) -> str:
        """
        Submit a text and return the ``TaskId``; record the start and the outcome.

        :raises AirflowException: if the outcome is unknown, and a retry may submit again
        :raises AirflowFailException: if the outcome is unknown, and no retry may submit again
        :raises MpsApiError: if MPS did not accept the text
        """
        self._pending = None
        self._hook.get_conn()  # so that its errors are raised before anything can be sent
        fingerprint = self._fingerprint(request)
        self._hook.submit_attempt = lambda: self._record_request(fingerprint)
        try:
            task_id = self._hook.submit_text_to_speech(
                request.text, request.voice_id, request.text_lang, request.ext_param
            )
        except BaseException as error:
            # If Airflow ends the attempt here, the next attempt finds the record; without a store, it would resubmit.
            must_translate = isinstance(error, MpsApiError) or (not self._store and self._on_unknown is OnUnknown.FAIL)
            if self._pending is None or not must_translate or isinstance(error, KeyboardInterrupt):
                raise
            raise self._make_unknown_error(error, self._pending.sent_at) from error
        self._pending = replace(self._pending or SubmitRecord.start(fingerprint, self._max_tries), task_id=task_id)
        if self._store:
            try:
                self._pending.save(self._store)
            except Exception as error:  # noqa: BLE001 - the task is billed; only a later attempt needs its id
                self._log.error("MPS accepted task %s, but Airflow could not store its id: %s", task_id, error)
        return task_id

    def cancel(self) -> None:
        """Send no further request: Airflow ends the attempt, and its signal handler does not interrupt the task."""
        self._is_cancelled = True

    @contextmanager
    def prevent_double_billing(self, task_id: str | None = None) -> Iterator[None]:
        """
        Keep a retry from submitting a text again that MPS has accepted.

        With a store, a permanent failure is recorded, after which only a clear can follow. ``max_tries`` alone does not
        always show a clear, e.g. if ``retries`` was lowered. A success is not recorded: Airflow pushes the XCom
        afterwards, and may still retry. Without a store, each failure after MPS has accepted the text is permanent.

        :param task_id: the ``TaskId``, if an earlier process of this attempt has submitted
        :raises AirflowFailException: in place of an error that Airflow would retry, if there is no store
        """
        try:
            yield
        except AirflowFailException:
            self._record_end()
            raise
        except BaseException as error:
            accepted = task_id or (self._pending and self._pending.task_id)
            if self._store or not accepted or isinstance(error, TaskDeferred | KeyboardInterrupt):
                raise
            self._log.warning("Task %s continues at MPS and may be billed", accepted, exc_info=error)
            raise AirflowFailException(
                f"This attempt failed ({type(error).__name__}) after MPS had accepted task {accepted}. {NOT_RETRIED}"
            ) from error

    @contextmanager
    def _record_request(self, fingerprint: str) -> Iterator[None]:
        """
        Record that a request is sent; restore the earlier record if MPS provably did not accept it.

        :raises AirflowException: if Airflow ends the attempt; nothing is sent
        """
        if self._is_cancelled:
            raise AirflowException("Airflow ended this attempt before the text was sent, so it was not submitted.")
        record, earlier = SubmitRecord.start(fingerprint, self._max_tries), None
        if self._store:
            earlier = self._store.get(STATE_KEY)
            record.save(self._store)
        self._pending = record
        try:
            yield
        except (MpsApiError, InvalidMpsConnectionError) as error:
            if getattr(error, "error_class", None) is not ErrorClass.OUTCOME_UNKNOWN:
                self._pending = None
                self._restore(earlier)
            raise

    def _restore(self, earlier: object) -> None:
        try:
            if self._store and earlier is None:
                self._store.delete(STATE_KEY)
            elif self._store:
                self._store.set(STATE_KEY, earlier)
        except Exception as error:  # noqa: BLE001 - the error of MPS is the one to report
            self._log.error("Airflow could not delete the record of a rejected submit, clear the task: %s", error)

    def _record_end(self) -> None:
        try:
            record = SubmitRecord.load(self._store)
            if record is not None and not record.has_ended:
                replace(record, has_ended=True).save(self._store)
        except Exception as error:  # noqa: BLE001 - the failure of the task is the error to report
            self._log.warning("Airflow could not store that this attempt has ended: %s", error)

    def _make_unknown_error(self, error: BaseException, sent_at: str) -> AirflowException:
        """Return an error that Airflow retries only if the user has chosen to risk double billing."""
        reason = (
            error.describe() if isinstance(error, MpsApiError) else f"The attempt was ended ({type(error).__name__})."
        )
        message = f"{reason} It is unknown whether MPS accepted the text sent at {sent_at}: it may already be billed"
        if self._on_unknown is OnUnknown.RESUBMIT:
            return AirflowException(f"{message}. A retry submits it again, as on_unknown='resubmit' requests.")
        return AirflowFailException(
            f"{message}, and is not retried. {ADOPT_TASK_ADVICE}; if not, clear the task to submit it again."
        )

    def _fingerprint(self, request: SpeechRequest) -> str:
        return request.fingerprint(self._hook.mps_conn_id, self._hook.region or None)


def _resubmit_reason(earlier: SubmitRecord) -> str:
    if earlier.task_id is None:
        return f"it is unknown whether MPS accepted the text sent at {earlier.sent_at}, which may be billed twice"
    return f"the arguments have changed; the earlier task {earlier.task_id} continues at MPS and may be billed"


def get_max_tries(context: Mapping[str, Any]) -> int:
    """Return ``max_tries`` of the task instance, which a clear usually raises and a retry never does; 0 if unknown."""
    max_tries = getattr(context.get("ti"), "max_tries", None)
    return max_tries if isinstance(max_tries, int) else 0


def format_utc_now() -> str:
    """Return the current time in UTC, in ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
