"""Submit the lines of a batch: paced, with a write-ahead record of each, and never while MPS does not respond."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.api.actions import make_submit_call
from airflow_provider_mps.batch.row import LineStatus
from airflow_provider_mps.batch.spending import CharacterBudget
from airflow_provider_mps.durable.record import format_utc_now
from airflow_provider_mps.error_codes import (
    FIND_TASK_ADVICE,
    NOT_SENT,
    ErrorClass,
    can_retry_submit,
    classify,
    fails_every_submit,
    is_credential_error,
)
from airflow_provider_mps.exceptions import InvalidRequestError, MpsApiError, make_api_error
from airflow_provider_mps.polling.request_gate import RequestGate
from airflow_provider_mps.speech.parsing import OnUnknown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from airflow_provider_mps.batch.row import Row
    from airflow_provider_mps.batch.state import BatchState
    from airflow_provider_mps.hooks.mps import MpsHook
    from airflow_provider_mps.polling.request_gate import Permit
    from airflow_provider_mps.speech.request import SpeechRequest

IN_FLIGHT = 16
"""Submits that may wait for a response at once: a server that hangs must not be overloaded."""
MAX_SUBMITS = 3
"""Submits of one line in all, if each outcome is unknown and ``on_unknown`` is ``resubmit``."""
UNKNOWN_LINE_ADVICE = (
    f"{FIND_TASK_ADVICE}: if so, set status to processing and TaskId to its id in this row of results.jsonl; if not, "
    "set status to pending; then clear the task."
)
LAST_CHECK_SECONDS = 0.5
"""Timeout of the last check of the lease; if it takes longer, the line is not sent yet."""
_WITHHELD = f"{NOT_SENT}.Withheld"


class NotSubmittedError(Exception):
    """The batch is stopping: the line was not submitted."""


class Submitter:
    """
    Submit the lines of one batch.

    :param ensure_lease: raises unless this batch holds its lease; awaited last before a request is sent
    :param budget: the characters that this run may submit; default: no limit
    """

    def __init__(  # noqa: PLR0917 - the parts of a batch
        self,
        hook: MpsHook,
        state: BatchState,
        ensure_lease: Callable[[], Coroutine[Any, Any, None]],
        on_unknown: OnUnknown,
        log: Any,
        budget: CharacterBudget | None = None,
    ) -> None:
        self._hook = hook
        self._state = state
        self._ensure_lease = ensure_lease
        self._on_unknown = on_unknown
        self._log = log
        self._budget = budget or CharacterBudget()
        self._gate = RequestGate(hook, "TextToSpeechAsync", log, probe_outages=True)
        self._persist_margin = 0.0
        """Seconds before its slot at which a line is recorded: a little more than the slowest recent write took."""
        self._capacity = asyncio.Semaphore(IN_FLIGHT)
        self._submits: set[asyncio.Task[Row]] = set()
        self._in_flight: set[asyncio.Task[Any]] = set()
        """Submits whose line is recorded as ``submitting``, and whose outcome is not recorded yet."""

    @property
    def stop_reason(self) -> Exception | None:
        """Why nothing is submitted any more; ``None`` until the batch stops."""
        return self._gate.close_reason

    @property
    def throttled(self) -> int:
        """Number of throttled submits."""
        return self._gate.throttled

    async def submit(self, request: SpeechRequest, row: Row) -> Row:
        """
        Submit a line, and return its row: accepted, rejected, or with an unknown outcome.

        :raises NotSubmittedError: if the batch stops before
        """
        # In its own task: a request in flight is awaited even if the caller is cancelled.
        submit = asyncio.create_task(self._submit(request, row))
        self._submits.add(submit)
        submit.add_done_callback(self._discard)
        return await asyncio.shield(submit)

    def _discard(self, submit: asyncio.Task[Row]) -> None:
        self._submits.discard(submit)
        self._in_flight.discard(submit)
        if not submit.cancelled():
            submit.exception()  # else asyncio logs it if the caller was cancelled

    def stop(self, reason: Exception) -> None:
        """Submit nothing any more; only the first reason counts."""
        self._gate.close(reason)

    async def settle(self, grace: float) -> None:
        """
        Wait until the outcome of each request in flight is recorded, and cancel all other submits.

        :param grace: seconds, after which the outcome of a request without a response is unknown
        """
        self.stop(NotSubmittedError())
        clock = asyncio.get_running_loop().time
        ends_at = clock() + grace
        while self._in_flight and (seconds_left := ends_at - clock()) > 0:
            # A rejected submit leaves the set but does not end: it waits for new credentials or a new slot.
            await asyncio.wait(self._in_flight, timeout=min(seconds_left, 0.05))
        for submit in self._submits:
            submit.cancel()
        if self._submits:
            await asyncio.wait(self._submits)

    async def _submit(self, request: SpeechRequest, row: Row) -> Row:
        call = make_submit_call(request.text, request.voice_id, request.text_lang, request.ext_param)
        characters, unknown, sent = len(request.text), 0, row
        error: AirflowException | None = None
        while True:
            async with self._capacity, self._permit() as permit:
                # Wake before the slot, early enough to record the line first.
                slot = self._gate.reserve_slot(permit, self._persist_margin)
                await self._gate.sleep_until(slot - self._persist_margin)
                if not self._gate.can_send(permit):
                    continue
                if not self._budget.can_use(characters):
                    if error is not None and unknown:
                        self._log.warning("Line %s is not submitted again, to stay within max_total_characters", row.id)
                        return await self._record_unknown(error, sent, unknown)
                    self.stop(self._make_limit_error(row, characters))
                    raise NotSubmittedError
                sent = row.with_status(LineStatus.SUBMITTING, sent_at=format_utc_now())
                with self._budget.reserve(characters) as reservation:
                    await self._persist(sent, permit)
                    if not self._gate.can_send(permit):
                        await self._record(sent.with_status(LineStatus.PENDING))
                        continue
                    self._gate.record_sending(permit)
                    reservation.is_kept = True
                    try:
                        with self._hook.metrics.observe_request(call.characters):
                            accepted = await self._hook.acall_once(call, self._check_before_sending)
                    except AirflowException as caught:
                        error = caught
                        reservation.is_kept = _is_outcome_unknown(error)
                        if isinstance(error, MpsApiError) and error.code == _WITHHELD:
                            await self._record(sent.with_status(LineStatus.PENDING))
                            continue
                        self._gate.record_outcome(permit, error)
                        unknown += _is_outcome_unknown(error)
                        final = await self._handle_error(error, sent, unknown)
                        if final is not None:
                            return final
                    else:
                        self._gate.record_outcome(permit)
                        self._log.debug("MPS accepted task %s (RequestId %s)", accepted.task_id, accepted.request_id)
                        ids = {"task_id": accepted.task_id, "voice_id": request.voice_id}
                        return await self._record(sent.with_status(LineStatus.PROCESSING, **ids))

    async def _handle_error(self, error: AirflowException, sent: Row, unknown: int) -> Row | None:
        """Return the line's final row, or ``None`` if it is to be submitted again."""
        if _is_outcome_unknown(error):
            if self._on_unknown is OnUnknown.FAIL or unknown >= MAX_SUBMITS:
                return await self._record_unknown(error, sent, unknown)
            self._log.warning("Submitting line %s again, which may be billed twice: %s", sent.id, error)
            return None
        code = error.code if isinstance(error, MpsApiError) else ""
        error_class = classify(code)
        if error_class is ErrorClass.PERMANENT and not fails_every_submit(code):
            return await self._record(sent.with_status(LineStatus.REJECTED, error=str(error)))
        await self._record(sent.with_status(LineStatus.PENDING))
        if not can_retry_submit(error_class) and not is_credential_error(code):
            self.stop(error)  # the account or the connection must be fixed first
        return None

    async def _record_unknown(self, error: AirflowException, sent: Row, unknown: int) -> Row:
        reason = error.describe() if isinstance(error, MpsApiError) else str(error)
        attempts = f" {unknown} times, last" if self._on_unknown is OnUnknown.RESUBMIT else ""
        message = (
            f"{reason} It is unknown whether MPS accepted this line, sent{attempts} at {sent.sent_at}: it may "
            f"already be billed, and was not submitted again. {UNKNOWN_LINE_ADVICE}"
        )
        return await self._record(sent.with_status(LineStatus.UNKNOWN, error=message))

    def _make_limit_error(self, row: Row, characters: int) -> InvalidRequestError:
        return InvalidRequestError(
            f"Line {row.id} with {characters} characters would exceed max_total_characters ({self._budget.limit}), of "
            f"which {self._budget.used} are used, and was not submitted. The manifest, a text or a voice has changed "
            "since the batch counted, or a submit was repeated. The results are kept: raise the limit, and clear the "
            "task to submit the rest."
        )

    async def _check_before_sending(self) -> None:
        """
        Keep the request from being sent unless this batch still holds its lease and MPS responds.

        The worker may have been suspended since the line was recorded, and another batch may have taken the lease.
        """
        message = "the line was not sent, because the lease is in doubt or the batch is stopping"
        withheld = make_api_error(_WITHHELD, message)
        if not self._gate.is_available:
            raise withheld
        try:
            async with asyncio.timeout(LAST_CHECK_SECONDS):
                await self._ensure_lease()
        except Exception as error:
            raise withheld from error

    async def _record(self, row: Row) -> Row:
        await self._state.record(row)
        self._in_flight.discard(_current_task())
        return row

    @asynccontextmanager
    async def _permit(self) -> AsyncIterator[Permit]:
        """Hold a permit for one request; stop the batch if acquiring it fails."""
        try:
            permit = await self._gate.acquire()
        except Exception as error:
            self.stop(error)
            raise NotSubmittedError from error
        try:
            yield permit
        finally:
            self._gate.release(permit)

    async def _persist(self, sent: Row, permit: Permit) -> None:
        """Record a line as ``submitting``, then wait for its slot."""
        loop = asyncio.get_running_loop()
        self._in_flight.add(_current_task())
        pending = sent.with_status(LineStatus.PENDING)
        try:
            started = loop.time()
            await self._state.record(sent)
            await self._await_unless_stopped(self._ensure_lease())
            self._persist_margin = max(1.2 * (loop.time() - started), 0.95 * self._persist_margin)
            await self._gate.sleep_until(permit.sent_at)
            while (
                self.stop_reason is None
                and loop.time() > permit.sent_at + 1 / self._gate.rate_limiter.requests_per_second
            ):
                # A request this late would coincide with the next ones: it needs a new slot.
                await self._gate.sleep_until(self._gate.reserve_slot(permit))
        except AirflowException:
            # The line was not sent, but may be recorded as `submitting`: a later run must not take it for unknown.
            with suppress(AirflowException):
                await self._state.record(pending)
            raise
        except BaseException:
            self._state.record_in_memory(pending)
            raise

    async def _await_unless_stopped(self, waiting: Coroutine[Any, Any, None]) -> None:
        tasks = [asyncio.create_task(waiting), asyncio.create_task(self._gate.closed.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                tasks[0].result()
        finally:
            for task in tasks:
                task.cancel()


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - each line is submitted in a task
    return task


def _is_outcome_unknown(error: AirflowException) -> bool:
    return isinstance(error, MpsApiError) and error.error_class is ErrorClass.OUTCOME_UNKNOWN
