"""Submit lines: inside the quota, written down before and after, and not at all while MPS does not answer."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.api import describe_call, submit_call
from airflow_provider_mps.batch.row import LineStatus
from airflow_provider_mps.choice import OnUnknown
from airflow_provider_mps.credential_gate import CredentialGate
from airflow_provider_mps.errors import (
    NOT_SENT,
    ErrorClass,
    MpsApiError,
    api_error,
    disproves_connection,
    refuses_credentials,
)
from airflow_provider_mps.intervals import PollInterval
from airflow_provider_mps.submission import utc_now
from airflow_provider_mps.triggers.pace import Pace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from airflow_provider_mps.batch.books import Books
    from airflow_provider_mps.batch.row import Row
    from airflow_provider_mps.credential_gate import Permit
    from airflow_provider_mps.hooks.mps import MpsHook
    from airflow_provider_mps.speech_request import SpeechRequest

IN_FLIGHT = 16
"""Submits that may be without an answer at once: a server that hangs shall not be piled upon."""
PATIENCE = 900.0
"""Seconds for which MPS may be out of reach before the batch is stopped, and left to a retry."""
MAX_RESUBMITS = 3
"""Times that a line of which the outcome is unknown is submitted in all, where the user accepts to pay again."""
LAST_CHECK_SECONDS = 0.5
"""Seconds that the last look at the lease may take; a line for which it takes longer is not sent yet."""
_NO_SUCH_TASK = "0-airflow-is-mps-back"
_OUT_OF_REACH = f"MPS was out of reach for {PATIENCE:g} seconds. A retry goes on. {{error}}"
_BETWEEN_TRIES = PollInterval(1.0)


class NotSubmittedError(Exception):
    """The batch is being stopped: the line was not submitted."""


class _LastCheck:
    """
    Check once more when a request is about to be written to its connection.

    :param require: raises where the request must not be sent
    """

    def __init__(self, require: Callable[[], Awaitable[None]]) -> None:
        self._require = require
        self.has_failed = False
        """Whether it has kept the request from being sent."""

    async def __call__(self) -> None:
        try:
            await self._require()
        except Exception as error:
            self.has_failed = True
            message = "the line was not sent, because another batch may have taken over or this one is being stopped"
            raise api_error(f"{NOT_SENT}.Withheld", message) from error


class Submitter:
    """
    Submits for one batch.

    :param hook: of the connection
    :param books: where each step is written down
    :param may_submit: returns while no other batch may be at work there; awaited last before a request is sent
    :param on_unknown: what to do with a line of which the outcome is unknown
    :param log: the task's
    """

    def __init__(
        self,
        hook: MpsHook,
        books: Books,
        may_submit: Callable[[], Coroutine[Any, Any, None]],
        on_unknown: OnUnknown,
        log: Any,
    ) -> None:
        self._hook = hook
        self._books = books
        self._may_submit = may_submit
        self._on_unknown = on_unknown
        self._log = log
        self._pace = Pace(1.0)
        self._lead = 0.0
        self._free = asyncio.Semaphore(IN_FLIGHT)
        self._answers = asyncio.Event()
        self._answers.set()
        self._asking: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[Row]] = set()
        self._gate = CredentialGate(hook, log)
        self._in_flight: set[asyncio.Task[Any]] = set()
        """Those whose line is written down as being sent, and whose outcome is not written down yet."""
        self._stopping = asyncio.Event()
        self.throttled = 0
        """Answers that said there were too many requests."""
        self.stopped: BaseException | None = None
        """Why nothing is submitted any more."""

    async def submit(self, request: SpeechRequest, row: Row) -> Row:
        """
        Submit a line, and return its row: accepted, refused, or of an unknown outcome.

        :raises NotSubmittedError: when the batch is stopped before
        """
        # Of its own: once it is sent, its answer is waited for, whoever does not want it any more.
        sending = asyncio.create_task(self._send(request, row))
        self._sending.add(sending)
        sending.add_done_callback(self._has_ended)
        return await asyncio.shield(sending)

    def _has_ended(self, sending: asyncio.Task[Row]) -> None:
        self._sending.discard(sending)
        self._in_flight.discard(sending)
        if not sending.cancelled():
            sending.exception()  # so that nobody complains where the line has left

    def stop(self, reason: BaseException) -> None:
        """Submit nothing any more."""
        if self.stopped is None:
            self.stopped = reason
        self._gate.close(reason)
        self._stopping.set()
        self._answers.set()

    async def settle(self, grace: float) -> None:
        """
        Wait until the outcome of each request that was sent is written down, and end everything else.

        :param grace: seconds; what is without a response then is of an unknown outcome
        """
        if self._asking:
            self._asking.cancel()
        clock = asyncio.get_running_loop().time
        ends = clock() + grace
        while self._in_flight and (left := ends - clock()) > 0:
            # Not to its end: one that was rejected may wait for other credentials, or for its turn.
            await asyncio.wait(self._in_flight, timeout=min(left, 0.05))
        for sending in self._sending:
            sending.cancel()
        if self._sending:
            await asyncio.wait(self._sending)

    async def _send(self, request: SpeechRequest, row: Row) -> Row:
        call = submit_call(request.text, request.voice_id, request.text_lang, request.ext_param)
        unknown = 0
        while True:
            await self._answers.wait()
            if self.stopped is not None:
                raise NotSubmittedError from self.stopped
            async with self._free, self._permit() as permit:
                slot = await self._turn(permit)
                if not self._answers.is_set():
                    continue
                sent = row.now(LineStatus.SUBMITTING, sent_at=utc_now())
                await self._prepared(sent, slot)
                if self.stopped is not None or not (self._answers.is_set() and self._gate.is_valid(permit)):
                    await self._ended(sent.now(LineStatus.PENDING))  # it was not sent
                    continue
                sent_at = asyncio.get_running_loop().time()
                check = _LastCheck(self._require_permission)
                try:
                    accepted = await self._hook.acall_once(call, check)
                except AirflowException as error:
                    if check.has_failed:
                        await self._ended(sent.now(LineStatus.PENDING))
                        continue
                    self._gate.judge(permit, error)
                    unknown += is_unknown(error)
                    ended = await self._react(error, sent, sent_at, unknown)
                    if ended is not None:
                        return ended
                else:
                    self._gate.judge(permit)
                    self._log.debug("MPS accepted task %s (RequestId %s)", accepted.task_id, accepted.request_id)
                    return await self._ended(sent.now(LineStatus.PROCESSING, task_id=accepted.task_id))

    async def _react(self, error: AirflowException, sent: Row, sent_at: float, unknown: int) -> Row | None:
        """Return how the line has ended; ``None`` where it is to be submitted again, after what is to be waited for."""
        error_class = error.error_class if isinstance(error, MpsApiError) else None
        if error_class is ErrorClass.OUTCOME_UNKNOWN:
            self._doubt()
            if self._on_unknown is OnUnknown.FAIL or unknown >= MAX_RESUBMITS:
                return await self._ended(sent.now(LineStatus.UNKNOWN, error=_unknown(error, sent)))
            self._log.warning("Line %s is submitted again, and may be paid twice: %s", sent.id, error)
            return None
        if error_class is ErrorClass.PERMANENT and is_about_the_line(error):
            return await self._ended(sent.now(LineStatus.REFUSED, error=str(error)))
        # First of all: it was not accepted, whatever fails from here on.
        await self._ended(sent.now(LineStatus.PENDING))
        if error_class is ErrorClass.THROTTLED:
            self.throttled += 1
            self._pace.refused(sent_at, asyncio.get_running_loop().time())
        elif error_class is ErrorClass.NOT_SENT:
            self._doubt()
        elif not (isinstance(error, MpsApiError) and refuses_credentials(error.code)):
            self.stop(error)  # the account or the connection must be fixed first
        return None

    async def _require_permission(self) -> None:
        """
        Check, when the next thing to happen is that the request leaves, that it still may.

        A worker may be suspended at any moment before, and another batch may take over meanwhile.
        """
        if self.stopped is not None or not self._answers.is_set():
            raise NotSubmittedError
        async with asyncio.timeout(LAST_CHECK_SECONDS):
            await self._may_submit()

    async def _ended(self, row: Row) -> Row:
        await self._books.record(row)
        self._in_flight.discard(_current_task())
        return row

    @asynccontextmanager
    async def _permit(self) -> AsyncIterator[Permit]:
        """Hold permission to send one request; where there is none to be had, the batch is stopped."""
        try:
            permit = await self._gate.permit()
        except Exception as error:
            self.stop(error)
            raise NotSubmittedError from error
        try:
            yield permit
        finally:
            self._gate.release(permit)

    async def _turn(self, permit: Permit) -> float:
        """Return the moment to send at, a little ahead of it: time to write down what is sent."""
        loop = asyncio.get_running_loop()
        self._pace.budget = permit.client.connection.requests_per_second
        slot = max(loop.time() + self._lead, self._pace.next_slot(loop.time()))
        self._pace.sent(slot)
        await self._sleep(slot - self._lead - loop.time())
        if self.stopped is not None:
            raise NotSubmittedError from self.stopped
        return slot

    async def _prepared(self, sent: Row, slot: float) -> None:
        self._in_flight.add(_current_task())
        pending = sent.now(LineStatus.PENDING)
        try:
            await self._written_before(sent, slot)
        except AirflowException:
            # It was not sent, whatever has been written down: whichever batch comes next must know.
            with suppress(AirflowException):
                await self._books.record(pending)
            raise
        except BaseException:
            self._books.note(pending)
            raise

    async def _written_before(self, sent: Row, slot: float) -> None:
        """Return at the moment to send at, when it is safe that this line is about to be sent."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        await self._books.record(sent)
        await self._unless_stopped(self._may_submit())
        # As long as the slowest of late, with a little to spare.
        self._lead = max(1.2 * (loop.time() - started), 0.95 * self._lead)
        await self._sleep(slot - loop.time())
        while self.stopped is None and (now := loop.time()) > slot + 1 / self._pace.budget:
            # Who is late would come together with the next ones: he goes to the end of the line.
            slot = self._pace.next_slot(now)
            self._pace.sent(slot)
            await self._sleep(slot - now)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but no longer than until the batch is stopped."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._stopping.wait()

    async def _unless_stopped(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Await something, but no longer than until the batch is stopped."""
        tasks = [asyncio.create_task(waiting), asyncio.create_task(_wait_for(self._stopping))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                tasks[0].result()
        finally:
            for task in tasks:
                task.cancel()

    def _doubt(self) -> None:
        """Send nothing until MPS answers to a question, which costs nothing."""
        if self._answers.is_set() and self.stopped is None:
            self._answers.clear()
            self._asking = asyncio.create_task(self._ask_until_it_answers())

    async def _ask_until_it_answers(self) -> None:
        loop = asyncio.get_running_loop()
        tries, since = 0, loop.time()
        while True:
            tries += 1
            await asyncio.sleep(_BETWEEN_TRIES.after_errors(min(tries, 4), random.random()))  # noqa: S311 - no secret
            try:
                await self._hook.acall_once(describe_call(_NO_SUCH_TASK))
            except MpsApiError as error:
                if error.error_class not in {ErrorClass.NOT_SENT, ErrorClass.OUTCOME_UNKNOWN}:
                    break
                self._log.warning("MPS does not answer; nothing is submitted until it does: %s", error)
                if loop.time() - since > PATIENCE:
                    self.stop(AirflowException(_OUT_OF_REACH.format(error=error)))
                    return
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody may be left waiting for ever
                self.stop(error)
                return
            else:
                break
        self._answers.set()


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - each line is submitted in a task
    return task


async def _wait_for(event: asyncio.Event) -> None:
    await event.wait()


def is_unknown(error: AirflowException) -> bool:
    """Tell whether MPS may have accepted what met an error."""
    return isinstance(error, MpsApiError) and error.error_class is ErrorClass.OUTCOME_UNKNOWN


def is_about_the_line(error: AirflowException) -> bool:
    """Tell whether a refusal is of this line alone, and not of everything that this account would submit."""
    account = ("FailedOperation.UserArrears", "LimitExceeded", "AuthFailure")
    return isinstance(error, MpsApiError) and not (disproves_connection(error.code) or error.code.startswith(account))


def _unknown(error: AirflowException, sent: Row) -> str:
    request_id = getattr(error, "request_id", "") or "none was given"
    return (
        f"{error} It is unknown whether MPS accepted this line, sent at {sent.sent_at} (RequestId {request_id}). It "
        "may be billed already, and was not submitted again: look into MPS's console; on_unknown='resubmit' does."
    )
