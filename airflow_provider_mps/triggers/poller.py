"""One paced poll loop for all that wait on one connection, in one event loop."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
import random
import time
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_provider_mps.api import describe_call
from airflow_provider_mps.connection import require_conn_id
from airflow_provider_mps.credential_gate import CredentialGate
from airflow_provider_mps.errors import InvalidMpsConnectionError, MpsApiError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.text_to_speech import TaskStatus
from airflow_provider_mps.triggers.consequence import Consequence, consequence
from airflow_provider_mps.triggers.pace import Pace
from airflow_provider_mps.triggers.report import LastSeen, Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_mps.api import ApiCall
    from airflow_provider_mps.credential_gate import Permit
    from airflow_provider_mps.intervals import PollInterval
    from airflow_provider_mps.text_to_speech import TextToSpeechTask

log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 100
"""As many as the HTTP client keeps connections."""
LEFT_OVER = 100
"""Entries of who has left that the line may hold."""


async def wait_for_task(
    mps_task_id: str,
    interval: PollInterval,
    mps_conn_id: str = MpsHook.default_conn_name,
    region: str | None = None,
    first_poll_in: float = 0.0,
    *,
    last_seen: LastSeen | None = None,
) -> TextToSpeechTask:
    """
    Return the task once it has finished, whether it succeeded or failed.

    All that wait on one connection and region in one event loop share one poll loop, one client and one budget, the
    connection's ``requests_per_second``. An error that may pass is waited out.

    :param mps_task_id: the ``TaskId``
    :param interval: how often to ask, as far as the budget allows
    :param mps_conn_id: the connection
    :param region: goes before the connection's own region
    :param first_poll_in: seconds until the first question
    :param last_seen: updated with each poll, for the error of a caller that gives up
    :raises InvalidRequestError: when there is no task id
    :raises InvalidMpsConnectionError: when the connection is missing or must be mended
    :raises MpsPermanentError: when MPS refuses to answer for a reason that waiting cannot mend
    """
    call = describe_call(mps_task_id)
    loop = asyncio.get_running_loop()
    due = loop.time() + max(0.0, first_poll_in)
    waiting = _Waiting(call, interval, due, loop.create_future(), last_seen or LastSeen())
    poller = _pollers_of(loop).poller(require_conn_id(mps_conn_id), region)
    poller.add(waiting)
    try:
        outcome = await waiting.outcome
    finally:
        poller.report_trouble(waiting)
        await poller.leave(waiting)
    if isinstance(outcome, BaseException):
        raise outcome.with_traceback(None)  # many may raise the same one
    return outcome


@dataclass(slots=True, eq=False)
class _Waiting:
    """One who waits for one task."""

    call: ApiCall[TextToSpeechTask]
    interval: PollInterval
    due: float
    """When to ask next, on the event loop's clock."""
    outcome: asyncio.Future[TextToSpeechTask | Exception]
    last_seen: LastSeen
    answers: int = 0
    """How many said that it is processing."""
    errors: int = 0
    """How many came since the last answer."""
    context: Context = field(default_factory=copy_context)
    """Of the trigger, so that what is said of this task is found in its own log."""


class _Pollers:
    """The pollers of one event loop, and the pace of each quota, which outlives them: a budget is not given twice."""

    def __init__(self) -> None:
        self._pollers: dict[tuple[str, str | None], Poller] = {}
        self._paces: dict[tuple[str, str], Pace] = {}

    def poller(self, mps_conn_id: str, region: str | None) -> Poller:
        key = (mps_conn_id, region)
        if key not in self._pollers:
            self._pollers[key] = Poller(
                MpsHook(mps_conn_id, region),
                pace_of=lambda found: self._paces.setdefault((mps_conn_id, found), Pace(1.0)),
                retire=lambda: self._pollers.pop(key),
            )
        return self._pollers[key]


_POLLERS: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pollers] = WeakKeyDictionary()


def _pollers_of(loop: asyncio.AbstractEventLoop) -> _Pollers:
    return _POLLERS.setdefault(loop, _Pollers())


class Poller:
    """
    Asks for all that wait, the earliest due first, several at once, at a pace.

    It runs from the first ``add`` to the last ``leave``; whoever comes later needs another one.

    :param hook: of the connection
    :param pace_of: returns the pace of the access region that the connection turns out to have
    :param retire: called once, when nobody may be added any more
    """

    def __init__(self, hook: MpsHook, pace_of: Callable[[str], Pace], retire: Callable[[], object]) -> None:
        self._hook = hook
        self._pace_of = pace_of
        self._retire = retire
        self._retired = False
        self._loop = asyncio.get_running_loop()
        self._everyone: set[_Waiting] = set()
        self._line: list[tuple[float, int, _Waiting]] = []
        self._arrivals = itertools.count()
        self._changed = asyncio.Event()
        self._gate = CredentialGate(hook, log)
        self._report = Report(hook.mps_conn_id, self._loop.time())
        # In a context of its own: it outlives the trigger that happens to be the first, and must not fill its log.
        self._runner = asyncio.create_task(self._run(), name=f"MPS poller {hook.mps_conn_id}", context=Context())

    def add(self, waiting: _Waiting) -> None:
        """Put somebody in line."""
        self._everyone.add(waiting)
        self._line_up(waiting, waiting.due)

    def report_trouble(self, waiting: _Waiting) -> None:
        """Add why no request could be sent to what was last seen of a task."""
        if self._gate.trouble is not None:
            waiting.last_seen.note_error(*self._gate.trouble)

    async def leave(self, waiting: _Waiting) -> None:
        """Let somebody go, at once; the last one ends the loop and closes the client."""
        self._everyone.discard(waiting)
        if not self._everyone:
            self._turn_newcomers_away()
            self._runner.cancel()
            await asyncio.wait([self._runner])
        elif len(self._line) > 2 * len(self._everyone) + LEFT_OVER:
            self._line = [entry for entry in self._line if entry[2] in self._everyone]
            heapq.heapify(self._line)

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as requests:
                await self._ask_in_turn(requests)
        except asyncio.CancelledError:
            for waiting in self._everyone:
                waiting.outcome.cancel()  # somebody ends all tasks of this event loop
            raise
        finally:
            with suppress(Exception):
                await self._hook.aclose()

    async def _ask_in_turn(self, requests: asyncio.TaskGroup) -> None:
        try:
            permit = await self._gate.permit()
            self._gate.release(permit)
            connection = permit.client.connection
            self._pace = self._pace_of(connection.region)
            self._pace.budget = connection.requests_per_second
            # Two seconds' worth: an answer takes a tenth of one, and a server that hangs shall not be piled upon.
            free = asyncio.Semaphore(min(MAX_IN_FLIGHT, max(2, math.ceil(2 * self._pace.budget))))
            while True:
                await free.acquire()
                waiting = await self._next_due()
                permit = await self._gate.permit()
                self._pace.sent(self._loop.time())
                self._report.requests += 1
                request = requests.create_task(self._ask(waiting, permit))
                request.add_done_callback(lambda _: free.release())
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may be left waiting for ever
            self._end_all(error)

    async def _next_due(self) -> _Waiting:
        """Return who is due first, at the moment when a request may be sent for him."""
        while True:
            while self._line and self._line[0][2] not in self._everyone:
                heapq.heappop(self._line)
            now = self._loop.time()
            self._report.tell(now, len(self._everyone), self._pace.budget)
            when = max(self._line[0][0], self._pace.next_slot(now)) if self._line else None
            if when is not None and when <= now:
                return heapq.heappop(self._line)[2]
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(when):
                    await self._changed.wait()

    async def _ask(self, waiting: _Waiting, permit: Permit) -> None:
        sent_at = self._loop.time()
        try:
            task = await self._hook.acall_once(waiting.call)
        except InvalidMpsConnectionError as error:
            self._end_all(error)
        except MpsApiError as error:
            self._gate.judge(permit, error)
            self._react(waiting, error, sent_at)
        except Exception as error:  # noqa: BLE001 - it ends the waiting for this task, not the loop
            _end(waiting, error)
        else:
            self._gate.judge(permit)
            waiting.errors = 0
            if task.status is TaskStatus.PROCESSING:
                waiting.last_seen.note_processing()
                waiting.answers += 1
                chance = random.random()  # noqa: S311 - no secret
                self._line_up(waiting, sent_at + waiting.interval.after_answers(waiting.answers, chance))
            else:
                _end(waiting, task)
        finally:
            self._gate.release(permit)

    def _react(self, waiting: _Waiting, error: MpsApiError, sent_at: float) -> None:
        waiting.last_seen.note_error(time.time(), str(error))
        match consequence(error.code):
            case Consequence.SLOW_DOWN:
                self._report.throttled += 1
                self._pace.refused(sent_at, self._loop.time())
                self._line_up(waiting, waiting.due)
            case Consequence.RENEW_CREDENTIALS:
                self._line_up(waiting, self._loop.time())
            case Consequence.BACK_OFF:
                waiting.errors += 1
                waiting.context.run(log.warning, "MPS could not be asked this time, still waiting: %s", error)
                chance = random.random()  # noqa: S311 - no secret
                self._line_up(waiting, self._loop.time() + waiting.interval.after_errors(waiting.errors, chance))
            case Consequence.END_ALL:
                self._end_all(error)
            case Consequence.END:
                _end(waiting, error)

    def _line_up(self, waiting: _Waiting, due: float) -> None:
        if waiting in self._everyone:
            waiting.due = due
            heapq.heappush(self._line, (due, next(self._arrivals), waiting))
            self._changed.set()

    def _end_all(self, error: Exception) -> None:
        """End it for everyone with the same error, and say so once."""
        if not self._retired:
            log.warning("%s stop waiting: %s", len(self._everyone), error)
        self._turn_newcomers_away()
        for waiting in self._everyone:
            _end(waiting, error)

    def _turn_newcomers_away(self) -> None:
        if not self._retired:
            self._retired = True
            self._retire()


def _end(waiting: _Waiting, outcome: TextToSpeechTask | Exception) -> None:
    if not waiting.outcome.done():
        waiting.outcome.set_result(outcome)
