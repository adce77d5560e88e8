"""Send a request that MPS bills once over all attempts of a task."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider_mps.durable.record import SubmitDecision, SubmitRecord, decide
from airflow_provider_mps.durable.request import DurableRequest
from airflow_provider_mps.exceptions import InvalidRequestError, MpsApiError
from airflow_provider_mps.redaction import describe_error
from airflow_provider_mps.speech.parsing import OnUnknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_provider_mps.hooks.mps import MpsHook
    from airflow_provider_mps.speech.request import SpeechRequest


class Request(Protocol):
    """What a task sends to MPS."""

    def fingerprint(self, *account: str | None) -> str:
        """Return a digest that is equal only for the same request with the same connection id and region."""


R = TypeVar("R", bound=Request)
S = TypeVar("S", bound="SpeechRequest")
T = TypeVar("T")


@dataclass(frozen=True)
class Wording:
    """What differs between kinds of requests in logs and errors."""

    noun: str
    """What is sent, e.g. "text"."""
    risk: str
    """A clause: what MPS may have done, if the outcome of a request is unknown."""
    second_submit: str
    """A verb phrase: what a second request may lead to."""
    before_clear: str
    """What to do before a clear, if the outcome of a request is unknown; "clear the task" follows it."""
    accepted: str
    """What MPS has accepted, with ``%s`` for its id."""
    state: str
    """A log message: what the state at MPS is after a failure, with ``%s`` for the id."""
    not_retried: str
    """Sentences: why a failure after MPS has accepted the request is not retried, and what to do instead."""
    is_text: bool = True
    """Whether it is a text, which the metrics count."""


class BilledRequest(DurableRequest, Generic[R]):
    """
    The request of one task instance, over all of its attempts.

    :param key: of the record in the task state store. Running tasks have stored it, so it must not change
    :param on_unknown: what to do if it is unknown whether MPS accepted the request
    :param durable: ``False``: keep no record
    """

    record_class: type[SubmitRecord] = SubmitRecord

    def __init__(  # noqa: PLR0917 - what a request of a task needs
        self,
        key: str,
        wording: Wording,
        hook: MpsHook,
        context: Mapping[str, Any],
        on_unknown: OnUnknown,
        log: Any,
        *,
        durable: bool = True,
    ) -> None:
        super().__init__(key, wording.noun, hook, context, log, durable=durable)
        self._wording = wording
        self._on_unknown = on_unknown
        self.was_cleared = False
        """Whether a user has cleared the task since the record was made."""

    @property
    def has_pending_request(self) -> bool:
        """Whether this attempt has sent a request that MPS has not rejected."""
        return self._pending is not None

    def find_voice(self, request: S) -> S:
        """
        Return the request with the VoiceId of its ``voice_name``, if it has one.

        :raises InvalidRequestError: if no voice or several have the name, and no earlier attempt was accepted
        """
        if request.voice_name is None:
            return request
        try:
            return replace(request, voice_id=self._hook.find_voice(request.voice_name).voice_id)
        except InvalidRequestError:
            # The voice may have been deleted after MPS had accepted the text: its audio is billed.
            record = self._load()
            earlier = replace(request, voice_id=(record.voice_id if record else None) or "")
            if record is None or not record.task_id or record.fingerprint != self._fingerprint(earlier):
                raise
            return earlier

    @contextmanager
    def prevent_double_billing(self, accepted_id: str | None = None) -> Iterator[None]:
        """
        Keep a retry from sending again what MPS has accepted.

        With a store, a permanent failure is recorded, after which only a clear can follow. ``max_tries`` alone does not
        always show a clear, e.g. if ``retries`` was lowered. A success is not recorded: Airflow pushes the XCom
        afterwards, and may still retry. Without a store, each failure after MPS has accepted it is permanent.

        :param accepted_id: the ``TaskId``, if an earlier process of this attempt has submitted
        :raises AirflowFailException: in place of an error that Airflow would retry, if there is no store
        """
        try:
            yield
        except AirflowFailException:
            self.record_end()
            raise
        except BaseException as error:
            accepted = accepted_id or (self._pending and self._pending.task_id)
            if self._store or not accepted or isinstance(error, TaskDeferred | KeyboardInterrupt):
                raise
            self._log.warning(self._wording.state, accepted, exc_info=error)
            raise AirflowFailException(
                f"This attempt failed ({type(error).__name__}) after MPS had accepted "
                f"{self._wording.accepted % accepted}. {self._wording.not_retried}"
            ) from error

    def _load(self) -> Any:
        """Return the record of an earlier attempt; ``None`` if there is none."""
        return self.record_class.load(self._store, self._key)

    def _decide(self, earlier: SubmitRecord, request: R) -> SubmitDecision:
        """
        Return whether to submit, or to continue with what an earlier attempt has submitted.

        :raises AirflowFailException: if it is unknown whether MPS accepted the earlier submit
        """
        self.was_cleared = earlier.was_cleared(self._max_tries, self._try_number)
        decision = decide(earlier, self._fingerprint(request), self._on_unknown, was_cleared=self.was_cleared)
        if decision is SubmitDecision.FAIL:
            self._count_unknown()  # the attempt that sent the request was killed, and could not
            raise self._make_earlier_unknown_error(earlier)
        return decision

    def _keep(self, earlier: SubmitRecord) -> None:
        """Keep the record of an earlier attempt, with which this one continues."""
        if self._wording.is_text:
            self._hook.metrics.count_reconnect()
        # Otherwise, a retry of this attempt would count the earlier clear as a new one.
        replace(earlier, max_tries=self._max_tries, has_ended=False).save(self._store, self._key)

    def _make_earlier_unknown_error(self, earlier: SubmitRecord) -> AirflowFailException:
        noun = self._wording.noun
        return AirflowFailException(
            f"An earlier attempt ended after {earlier.sent_at}, while it submitted a {noun}. It is unknown whether "
            f"MPS accepted the {noun}, so it was not submitted again: a second submit {self._wording.second_submit}. "
            f"{self._wording.before_clear}clear the task or set on_unknown='resubmit' to submit again."
        )

    def _send(self, start: Callable[[], SubmitRecord], send: Callable[[], T]) -> T:
        """
        Send the request, and record its start.

        :param start: makes the record of a request that is about to be sent
        :raises AirflowException: if the outcome is unknown, and a retry may submit again
        :raises AirflowFailException: if the outcome is unknown, and no retry may submit again
        :raises MpsApiError: if MPS did not accept the request
        """
        self._pending = None
        self._hook.get_conn()  # so that its errors are raised before anything can be sent
        self._hook.submit_attempt = lambda: self.record_request(start())
        try:
            return send()
        except BaseException as error:
            # If Airflow ends the attempt here, the next attempt finds the record; without a store, it would resubmit.
            must_translate = isinstance(error, MpsApiError) or (not self._store and self._on_unknown is OnUnknown.FAIL)
            if self._pending is None or not must_translate or isinstance(error, KeyboardInterrupt):
                raise
            if not isinstance(error, MpsApiError):  # which the hook has counted
                self._count_unknown()
            raise self._make_unknown_error(error, self._pending.sent_at) from error

    def _count_unknown(self) -> None:
        if self._wording.is_text:
            self._hook.metrics.count_unknown()

    def _save_accepted(self, record: SubmitRecord) -> None:
        """Record what MPS has accepted."""
        self._pending = record
        if self._store:
            try:
                record.save(self._store, self._key)
            except Exception as error:  # noqa: BLE001 - it is billed; only a later attempt needs the record
                self._log.error(
                    "MPS accepted %s, but Airflow could not store its id: %s",
                    self._wording.accepted % record.task_id,
                    describe_error(error),  # it may quote the record, which may have a signed URL
                )

    def _make_unknown_error(self, error: BaseException, sent_at: str) -> AirflowException:
        """Return an error that Airflow retries only if the user has chosen to risk double billing."""
        reason = (
            error.describe() if isinstance(error, MpsApiError) else f"The attempt was ended ({type(error).__name__})."
        )
        unknown = f"It is unknown whether MPS accepted the {self._wording.noun} sent at {sent_at}"
        message = f"{reason} {unknown}: {self._wording.risk}"
        if self._on_unknown is OnUnknown.RESUBMIT:
            return AirflowException(f"{message}. A retry submits it again, as on_unknown='resubmit' requests.")
        return AirflowFailException(
            f"{message}, and is not retried. {self._wording.before_clear}clear the task to submit it again."
        )

    def _fingerprint(self, request: Request) -> str:
        return request.fingerprint(self._hook.mps_conn_id, self._hook.region or None)
