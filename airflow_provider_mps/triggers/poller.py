"""One paced poll loop for all that wait on one connection, in one event loop."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
import random
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_provider_mps.api import describe_call
from airflow_provider_mps.errors import (
    ErrorClass,
    InvalidMpsConnectionError,
    MpsApiError,
    MpsPermanentError,
    disproves_connection,
)
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.intervals import PollInterval
from airflow_provider_mps.text_to_speech import TaskStatus
from airflow_provider_mps.triggers.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_mps.api import ApiCall
    from airflow_provider_mps.client import AsyncClient
    from airflow_provider_mps.credentials import Credential
    from airflow_provider_mps.text_to_speech import TextToSpeechTask

log = logging.getLogger(__name__)

TELL_EVERY = 60.0
"""Seconds between two lines about how the waiting goes."""
MAX_IN_FLIGHT = 100
"""As many as the HTTP client keeps connections."""
_UNTIL_CONNECTED = PollInterval(1.0)


async def wait_for_task(
    mps_task_id: str,
    interval: PollInterval,
    mps_conn_id: str = MpsHook.default_conn_name,
    region: str | None = None,
    first_poll_in: float = 0.0,
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
    :raises InvalidRequestError: when there is no task id
    :raises InvalidMpsConnectionError: when the connection is missing or must be mended
    :raises MpsPermanentError: when MPS refuses to answer for a reason that waiting cannot mend
    """
    call = describe_call(mps_task_id)
    loop = asyncio.get_running_loop()
    waiting = _Waiting(call, interval, loop.time() + max(0.0, first_poll_in), loop.create_future())
    poller = _pollers_of(loop).poller(mps_conn_id, region)
    poller.add(waiting)
    try:
        outcome = await waiting.outcome
    finally:
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
    answers: int = 0
    """How many said that it is processing."""
    errors: int = 0
    """How many came since the last answer."""
    context: Context = field(default_factory=copy_context)
    """Of the trigger, so that what is said of this task is found in its own log."""


class _Pollers:
    """The pollers of one event loop, and the pace of each, which outlives it: the budget is the connection's."""

    def __init__(self) -> None:
        self._pollers: dict[tuple[str, str | None], Poller] = {}
        self._paces: dict[tuple[str, str | None], Pace] = {}

    def poller(self, mps_conn_id: str, region: str | None) -> Poller:
        key = (mps_conn_id, region)
        if key not in self._pollers:
            pace = self._paces.setdefault(key, Pace(1.0))
            self._pollers[key] = Poller(MpsHook(mps_conn_id, region), pace, lambda: self._pollers.pop(key))
        return self._pollers[key]


_POLLERS: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pollers] = WeakKeyDictionary()


def _pollers_of(loop: asyncio.AbstractEventLoop) -> _Pollers:
    return _POLLERS.setdefault(loop, _Pollers())


class Poller:
    """
    Asks for all that wait, the earliest due first, several at once, at a pace.

    It runs from the first ``add`` to the last ``leave``; whoever comes later needs another one.

    :param hook: of the connection
    :param pace: of the connection
    :param retire: called once, when nobody may be added any more
    """

    def __init__(self, hook: MpsHook, pace: Pace, retire: Callable[[], object]) -> None:
        self._hook = hook
        self._pace = pace
        self._retire = retire
        self._retired = False
        self._loop = asyncio.get_running_loop()
        self._everyone: set[_Waiting] = set()
        self._line: list[tuple[float, int, _Waiting]] = []
        self._arrivals = itertools.count()
        self._changed = asyncio.Event()
        self._renewing = asyncio.Lock()
        self._worked = True
        """Whether the credentials have, since they were renewed last."""
        self._told_at = self._loop.time()
        self._requests = self._throttled = 0
        # In a context of its own: it outlives the trigger that happens to be the first, and must not fill its log.
        self._runner = asyncio.create_task(self._run(), name=f"MPS poller {hook.mps_conn_id}", context=Context())

    def add(self, waiting: _Waiting) -> None:
        """Put somebody in line."""
        self._everyone.add(waiting)
        self._line_up(waiting, waiting.due)

    async def leave(self, waiting: _Waiting) -> None:
        """Let somebody go, at once; the last one ends the loop and closes the client."""
        self._everyone.discard(waiting)
        if not self._everyone:
            self._turn_newcomers_away()
            self._runner.cancel()
            await asyncio.wait([self._runner])

    async def _run(self) -> None:
        try:
            client = await self._connect()
            budget = self._pace.budget = client.connection.requests_per_second
            # Two seconds' worth: an answer takes a tenth of one, and a server that hangs shall not be piled upon.
            free = asyncio.Semaphore(min(MAX_IN_FLIGHT, max(2, math.ceil(2 * budget))))
            async with asyncio.TaskGroup() as requests:
                while True:
                    await free.acquire()
                    waiting = await self._next_due()
                    self._pace.sent(self._loop.time())
                    self._requests += 1
                    request = requests.create_task(self._ask(waiting, client))
                    request.add_done_callback(lambda _: free.release())
        except asyncio.CancelledError:
            for waiting in self._everyone:
                waiting.outcome.cancel()  # somebody ends all tasks of this event loop
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may be left waiting for ever
            self._end_all(error)
        finally:
            await self._hook.aclose()

    async def _connect(self) -> AsyncClient:
        for errors in itertools.count(1):
            try:
                return await self._hook.aget_conn()
            except MpsPermanentError:
                raise
            except MpsApiError as error:
                log.warning("Connection '%s' cannot be used yet, still trying: %s", self._hook.mps_conn_id, error)
                await asyncio.sleep(_UNTIL_CONNECTED.after_errors(errors, random.random()))  # noqa: S311 - no secret
        raise AssertionError("unreachable")

    async def _next_due(self) -> _Waiting:
        """Return who is due first, at the moment when a request may be sent for him."""
        while True:
            while self._line and self._line[0][2] not in self._everyone:
                heapq.heappop(self._line)
            now = self._loop.time()
            self._tell(now)
            when = max(self._line[0][0], self._pace.next_slot(now)) if self._line else None
            if when is not None and when <= now:
                return heapq.heappop(self._line)[2]
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(when):
                    await self._changed.wait()

    async def _ask(self, waiting: _Waiting, client: AsyncClient) -> None:
        sent_at, credential = self._loop.time(), client.credential
        try:
            try:
                task = await self._hook.acall_once(waiting.call)
            except MpsApiError as error:
                await self._react(waiting, error, sent_at, client, credential)
                return
        except InvalidMpsConnectionError as error:
            self._end_all(error)
            return
        except Exception as error:  # noqa: BLE001 - it ends the waiting for this task, not the loop
            _end(waiting, error)
            return
        self._worked, waiting.errors = True, 0
        if task.status is not TaskStatus.PROCESSING:
            _end(waiting, task)
            return
        waiting.answers += 1
        chance = random.random()  # noqa: S311 - no secret
        self._line_up(waiting, sent_at + waiting.interval.after_answers(waiting.answers, chance))

    async def _react(
        self, waiting: _Waiting, error: MpsApiError, sent_at: float, client: AsyncClient, credential: Credential
    ) -> None:
        now = self._loop.time()
        if error.error_class is ErrorClass.THROTTLED:
            self._throttled += 1
            self._pace.refused(sent_at, now)
            self._line_up(waiting, waiting.due)
        elif error.code.startswith("AuthFailure"):
            if await self._renew(client, credential, error):
                self._line_up(waiting, waiting.due)
            else:
                self._end_all(error)
        elif error.error_class is not ErrorClass.PERMANENT:
            waiting.errors += 1
            waiting.context.run(log.warning, "MPS could not be asked this time, still waiting: %s", error)
            self._line_up(waiting, now + waiting.interval.after_errors(waiting.errors, random.random()))  # noqa: S311
        elif disproves_connection(error.code):
            self._end_all(error)
        else:
            _end(waiting, error)

    async def _renew(self, client: AsyncClient, credential: Credential, error: MpsApiError) -> bool:
        """Get the credentials anew, once: they may have expired, or been replaced in the connection meanwhile."""
        async with self._renewing:
            if client.credential is credential:
                if not self._worked:
                    return False
                await self._hook.arenew_credentials(credential, error)
                self._worked = False
        return True

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

    def _tell(self, now: float) -> None:
        seconds = now - self._told_at
        if seconds < TELL_EVERY:
            return
        log.info(
            "Connection '%s': %s tasks are waiting; in the last %.0f seconds %.1f requests a second of a budget of %g, "
            "%s of them throttled",
            self._hook.mps_conn_id,
            len(self._everyone),
            seconds,
            self._requests / seconds,
            self._pace.budget,
            self._throttled,
        )
        self._told_at, self._requests, self._throttled = now, 0, 0


def _end(waiting: _Waiting, outcome: TextToSpeechTask | Exception) -> None:
    if not waiting.outcome.done():
        waiting.outcome.set_result(outcome)
