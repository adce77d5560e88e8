"""Poll tasks of MPS: one paced loop for all waiters on one connection in an event loop."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from contextlib import nullcontext, suppress
from contextvars import Context
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_provider_mps.api.actions import make_describe_call
from airflow_provider_mps.api.connection import parse_conn_id
from airflow_provider_mps.error_codes import PollErrorAction, get_poll_error_action
from airflow_provider_mps.exceptions import InvalidMpsConnectionError, MpsApiError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.metrics import Metrics
from airflow_provider_mps.polling.event import LastSeen
from airflow_provider_mps.polling.poll_queue import HEAD_START_CYCLES, PollQueue, Waiter
from airflow_provider_mps.polling.request_gate import RequestGate
from airflow_provider_mps.polling.waiting_gauge import get_waiting_gauge
from airflow_provider_mps.speech.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_mps.api.actions import ApiCall
    from airflow_provider_mps.polling.intervals import PollInterval
    from airflow_provider_mps.polling.request_gate import Permit
    from airflow_provider_mps.speech.task import MpsTask

log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 100
"""As many connections as the HTTP client opens."""
STATS_INTERVAL_SECONDS = 60.0


async def wait_for_task(
    mps_task_id: str,
    interval: PollInterval,
    mps_conn_id: str = MpsHook.default_conn_name,
    region: str | None = None,
    first_poll_in: float = 0.0,
    *,
    last_seen: LastSeen | None = None,
    oldest_first: bool = False,
    make_call: Callable[[str], ApiCall[MpsTask]] = make_describe_call,
    operator: str | None = None,
    is_trigger: bool = False,
) -> MpsTask:
    """
    Return a task once it has finished, whether it succeeded or failed.

    All waiters for tasks of one kind on one connection and region in an event loop share one poll loop, one client and
    one rate limit: the connection's ``requests_per_second``. Transient errors are retried without end.

    :param interval: how often to poll, as far as the rate limit allows
    :param region: overrides the connection's region
    :param first_poll_in: seconds until the first poll
    :param last_seen: updated with each poll, for the error of a caller that stops waiting
    :param oldest_first: poll due tasks in the order in which their waits began: the oldest has most likely finished.
        A task that was polled before has only a limited head start over newer ones.
        Due tasks without ``oldest_first`` come before them, in the order in which they became due.
    :param make_call: makes the call that queries a task of this kind; default: of a text-to-speech task
    :param operator: class of the caller, for the metrics
    :param is_trigger: whether the caller is a trigger, whose waits the gauge ``mps.waiting`` counts
    :raises InvalidRequestError: if the task id is missing
    :raises InvalidMpsConnectionError: if the connection is missing or must be fixed
    :raises MpsPermanentError: if MPS rejects the poll for a reason that waiting cannot fix
    """
    call = make_call(mps_task_id)
    conn_id = parse_conn_id(mps_conn_id)
    metrics = Metrics(conn_id, operator) if operator else Metrics(conn_id)
    loop = asyncio.get_running_loop()
    now = loop.time()
    due = now + max(0.0, first_poll_in)
    waiter = Waiter(
        call,
        interval,
        due,
        loop.create_future(),
        last_seen or LastSeen(),
        oldest_first_since=now if oldest_first else None,
        metrics=metrics,
    )
    pollers, key = _POLLERS.setdefault(loop, {}), (conn_id, region, call.action)
    if key not in pollers:
        pollers[key] = Poller(*key)
    poller = pollers[key]
    poller.add(waiter)
    try:
        with get_waiting_gauge().count(metrics) if is_trigger else nullcontext():
            outcome = await waiter.outcome
    finally:
        await poller.remove(waiter)
    if isinstance(outcome, BaseException):
        raise outcome.with_traceback(None)  # many waiters may raise the same error
    return outcome


_POLLERS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str | None, str], Poller]] = WeakKeyDictionary()


class Poller:
    """
    Poll the tasks of all waiters in the order of a :class:`PollQueue`, several at once, within the rate limit.

    It runs until the last :meth:`remove`, or until an error that fails all waiters.
    """

    def __init__(self, mps_conn_id: str, region: str | None, action: str) -> None:
        self._key = (mps_conn_id, region, action)
        self._hook = MpsHook(mps_conn_id, region)
        self._loop = asyncio.get_running_loop()
        self._queue = PollQueue()
        self._queue_changed = asyncio.Event()
        self._gate = RequestGate(self._hook, action, log)
        self._requests = self._throttled_before = 0
        self._stats_since = self._loop.time()
        # Its own context: the loop outlives the trigger that started it, and must not write to that trigger's log.
        self._runner = asyncio.create_task(self._run(), name=f"MPS poller {mps_conn_id}", context=Context())

    def add(self, waiter: Waiter) -> None:
        """Add a waiter."""
        self._queue.add(waiter)
        self._queue_changed.set()

    async def remove(self, waiter: Waiter) -> None:
        """Remove a waiter at once; removing the last one ends the loop and closes the client."""
        if self._gate.last_failure is not None:
            waiter.last_seen.record_error(*self._gate.last_failure)
        self._queue.remove(waiter)
        if not self._queue.waiters:
            self._retire()
            self._runner.cancel()
            await asyncio.wait([self._runner])

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as requests:
                await self._poll_all(requests)
        except asyncio.CancelledError:
            for waiter in self._queue.waiters:
                waiter.outcome.cancel()  # the event loop is shutting down
            raise
        finally:
            with suppress(Exception):
                await self._hook.aclose()

    async def _poll_all(self, requests: asyncio.TaskGroup) -> None:
        try:
            self._gate.release(await self._gate.acquire())  # reads the connection's rate limit
            # Two seconds' worth: a response takes about 0.1 s, and a server that hangs must not be overloaded.
            limit = min(MAX_IN_FLIGHT, max(2, math.ceil(2 * self._gate.rate_limiter.requests_per_second)))
            in_flight = asyncio.Semaphore(limit)
            while True:
                await in_flight.acquire()
                waiter = await self._wait_for_due()
                permit = await self._gate.acquire()
                await self._gate.sleep_until(self._gate.reserve_slot(permit))
                self._requests += 1
                request = requests.create_task(self._poll(waiter, permit))
                request.add_done_callback(lambda _: in_flight.release())
        except Exception as error:  # noqa: BLE001 - any error must end the waits
            self._fail_all(error)

    async def _wait_for_due(self) -> Waiter:
        """Return the waiter to poll next, once a request for it may be sent."""
        while True:
            now = self._loop.time()
            self._log_stats(now)
            when = self._queue.next_due(now)
            if when is not None:
                when = max(when, self._gate.rate_limiter.next_send_time(now))
                if when <= now:
                    return self._queue.pop()
            self._queue_changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(when):
                    await self._queue_changed.wait()

    async def _poll(self, waiter: Waiter, permit: Permit) -> None:
        self._gate.record_sending(permit)
        try:
            with (waiter.metrics or self._hook.metrics).observe_request(waiter.call.characters):
                task = await self._hook.acall_once(waiter.call)
        except InvalidMpsConnectionError as error:
            self._fail_all(error)
        except MpsApiError as error:
            self._gate.record_outcome(permit, error)
            self._handle_error(waiter, error)
        except Exception as error:  # noqa: BLE001 - it ends the wait for this task, not the loop
            waiter.finish(error)
        else:
            self._gate.record_outcome(permit)
            waiter.errors = 0
            if task.status is TaskStatus.PROCESSING:
                waiter.last_seen.record_processing()
                waiter.polls += 1
                fraction = random.random()  # noqa: S311 - no secret
                delay = waiter.delay_after_poll(permit.sent_at, self._cycle, fraction)
                self._enqueue(waiter, permit.sent_at + delay)
            else:
                waiter.finish(task)
        finally:
            self._gate.release(permit)

    def _handle_error(self, waiter: Waiter, error: MpsApiError) -> None:
        waiter.last_seen.record_error(time.time(), str(error))
        match get_poll_error_action(error.code):
            case PollErrorAction.SLOW_DOWN:
                self._enqueue(waiter, waiter.due)
            case PollErrorAction.REFRESH_CREDENTIALS:
                self._enqueue(waiter, self._loop.time())
            case PollErrorAction.BACK_OFF:
                waiter.errors += 1
                delay = waiter.interval.delay_after_errors(waiter.errors, random.random())  # noqa: S311 - no secret
                task_id = waiter.call.params["TaskId"]
                message = "Polling MPS task %s failed, will retry in %.0f s: %s"
                waiter.context.run(log.warning, message, task_id, delay, error)
                self._enqueue(waiter, self._loop.time() + delay)
            case PollErrorAction.FAIL_ALL:
                self._fail_all(error)
            case PollErrorAction.FAIL:
                waiter.finish(error)

    @property
    def _cycle(self) -> float:
        """The seconds in which the rate limit allows one poll of each waiting task."""
        return len(self._queue.waiters) / self._gate.rate_limiter.requests_per_second

    def _enqueue(self, waiter: Waiter, due: float) -> None:
        """Poll a waiter again at ``due``."""
        waiter.head_start = HEAD_START_CYCLES * self._cycle
        self._queue.push(waiter, due)
        self._queue_changed.set()

    def _fail_all(self, error: Exception) -> None:
        """Fail all waiters with the same error, and log it once."""
        if self._retire():
            log.warning(
                "Ending all waits on connection '%s' (%s): %s", self._hook.mps_conn_id, len(self._queue.waiters), error
            )
        for waiter in self._queue.waiters:
            waiter.finish(error)

    def _retire(self) -> bool:
        """Let later waiters start another poller; return ``False`` if this was done before."""
        pollers = _POLLERS[self._loop]
        return pollers.get(self._key) is self and bool(pollers.pop(self._key))

    def _log_stats(self, now: float) -> None:
        """Log the number of waiters and the request rate, at most once in ``STATS_INTERVAL_SECONDS``."""
        seconds = now - self._stats_since
        if seconds < STATS_INTERVAL_SECONDS:
            return
        log.info(
            "Connection '%s': %s tasks are waiting; sent %.1f requests per second in the last %.0f s (rate limit %g), "
            "of which %s were throttled",
            self._hook.mps_conn_id,
            len(self._queue.waiters),
            self._requests / seconds,
            seconds,
            self._gate.rate_limiter.requests_per_second,
            self._gate.throttled - self._throttled_before,
        )
        self._stats_since, self._requests, self._throttled_before = now, 0, self._gate.throttled
