"""The shared poll loop: what an error about one task means for it, and for the others."""

import asyncio
import logging
from contextvars import ContextVar

import pytest

from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.exceptions import InvalidRequestError, MpsPermanentError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.polling import poller
from airflow_provider_mps.polling.event import LastSeen
from airflow_provider_mps.polling.intervals import PollInterval
from airflow_provider_mps.polling.poller import wait_for_task
from airflow_provider_mps.speech.task import TaskStatus
from tests import faulty_emulator
from tests.answers import PROCESSING
from tests.faulty_emulator import FaultyEmulator
from tests.scripted_server import HANG, RESET, ScriptedServer, make_api_error, make_json_reply
from tests.waiting import FAST, SUCCESS, names, task_of, wait_all


def test_poller_throttled_responses_fail_no_wait(submit, logged, connect):
    app = FaultyEmulator(Options(synthesis_time=1, voice="tone", rate_limit=1000))
    emulator, task_ids = submit(10, app)
    connect(f"{emulator.connection_uri}&requests_per_second=50")
    app.faults_of = lambda number: faulty_emulator.make_api_error("RequestLimitExceeded") if number % 2 else None
    outcomes = asyncio.run(wait_all(*task_ids))
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    assert logged(logging.WARNING) == []


@pytest.mark.parametrize("fault", [make_api_error("InternalError"), RESET, make_json_reply({"no": "Response"})])
def test_poller_transient_error_delays_only_its_task(connect, fault, logged):
    faults = [fault]
    finished = []

    async def note(name):
        await wait_for_task(name, FAST)
        finished.append(name)

    async def wait_for_five():
        await asyncio.gather(*map(note, names(5)))

    with ScriptedServer(lambda request: faults.pop() if task_of(request) == "task-0" and faults else SUCCESS) as server:
        connect(server.connection_uri())
        asyncio.run(wait_for_five())
    assert finished[-1] == "task-0"
    (warning,) = logged(logging.WARNING)
    assert "task-0" in warning
    assert "failed, will retry in" in warning


def test_poller_response_resets_error_count(connect, monkeypatch):
    counts, delay_after_errors = [], PollInterval.delay_after_errors

    def note(interval, errors, chance):
        counts.append(errors)
        return min(delay_after_errors(interval, errors, chance), 0.1)

    monkeypatch.setattr(PollInterval, "delay_after_errors", note)
    fault = make_api_error("InternalError")
    with ScriptedServer(fault, fault, PROCESSING, fault, SUCCESS) as server:
        connect(server.connection_uri())
        asyncio.run(wait_all("task-1"))
    assert counts == [1, 2, 1]


def test_poller_warning_goes_to_its_own_trigger_log(connect, monkeypatch):
    monkeypatch.setattr(poller, "STATS_INTERVAL_SECONDS", 0.0)
    trigger = ContextVar("trigger", default=None)
    records = []

    class InContext(logging.Handler):
        def emit(self, record):
            records.append((record.levelno, trigger.get(), record.getMessage()))

    async def wait_as(name):
        trigger.set(name)
        await wait_for_task(name, FAST)

    async def both():
        await asyncio.gather(wait_as("task-0"), wait_as("task-1"))

    handler, logger = InContext(logging.INFO), logging.getLogger("airflow_provider_mps.polling")
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.addHandler(handler)
    faults = [make_api_error("InternalError")]
    try:
        with ScriptedServer(
            lambda request: faults.pop() if task_of(request) == "task-1" and faults else SUCCESS
        ) as server:
            connect(server.connection_uri())
            asyncio.run(both())
    finally:
        logger.removeHandler(handler)
    assert [name for level, name, _ in records if level == logging.WARNING] == ["task-1"]
    assert {name for level, name, _ in records if level == logging.INFO} == {None}


def test_poller_request_timeouts_are_retried(connect, logged):
    with ScriptedServer(HANG, HANG, HANG, SUCCESS) as server:
        connect(server.connection_uri("timeout=1.5"))
        outcomes = asyncio.run(wait_all(*names(5)))
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    assert len(logged(logging.WARNING)) == 3


def test_poller_permanent_task_error_fails_only_that_wait(emulator):
    task_id = MpsHook().submit_text_to_speech("hello", "voice")
    missing, task = asyncio.run(wait_all("no-such-task", task_id))
    assert isinstance(missing, MpsPermanentError)
    assert missing.code == "ResourceNotFound"
    assert task.status is TaskStatus.SUCCESS


@pytest.mark.parametrize("code", ["UnauthorizedOperation", "AuthFailure.UnauthorizedOperation"])
def test_poller_missing_permission_fails_only_that_wait(connect, code):
    with ScriptedServer(lambda request: make_api_error(code) if task_of(request) == "task-0" else SUCCESS) as server:
        connect(server.connection_uri())
        rejected, *others = asyncio.run(wait_all(*names(10)))
    assert isinstance(rejected, MpsPermanentError)
    assert "Grant" in str(rejected) or code.startswith("AuthFailure")
    assert {task.status for task in others} == {TaskStatus.SUCCESS}


def test_poller_connection_error_fails_all(connect, logged):
    with ScriptedServer(make_api_error("IpNotInWhitelist")) as server:
        connect(server.connection_uri())
        outcomes = asyncio.run(wait_all(*names(20)))
    assert {type(error) for error in outcomes} == {MpsPermanentError}
    assert len(logged(logging.WARNING)) == 1


@pytest.mark.parametrize("seconds", ["10", float("nan"), -1])
def test_wait_invalid_interval_fails_only_that_wait(connect, seconds):
    async def both():
        waits = wait_for_task("task-0", FAST), wait_with(seconds)
        return await asyncio.gather(*waits, return_exceptions=True)

    async def wait_with(seconds):
        return await wait_for_task("task-1", PollInterval(seconds))

    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        task, error = asyncio.run(both())
    assert task.status is TaskStatus.SUCCESS
    assert isinstance(error, InvalidRequestError)


def test_poller_unexpected_error_fails_only_that_wait(connect, monkeypatch):
    call_once = MpsHook.acall_once

    async def fail(hook, call):
        if call.params["TaskId"] == "task-0":
            raise AttributeError("a bug")
        return await call_once(hook, call)

    monkeypatch.setattr(MpsHook, "acall_once", fail)
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        error, task = asyncio.run(wait_all(*names(2)))
    assert isinstance(error, AttributeError)
    assert task.status is TaskStatus.SUCCESS


def test_poller_bug_in_loop_fails_all(connect, monkeypatch):
    def fail(*_):
        raise AttributeError("a bug")

    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        monkeypatch.setattr("airflow_provider_mps.polling.rate_limiter.RateLimiter.record_request", fail)
        outcomes = asyncio.run(wait_all(*names(3)))
    assert all("a bug" in repr(error) for error in outcomes)


def last_seen_when(condition):
    """Wait for a task until a condition holds for what was last seen of it."""

    async def wait():
        last_seen = LastSeen()
        waiting = asyncio.create_task(wait_for_task("task-1", FAST, last_seen=last_seen))
        async with asyncio.timeout(60):
            while not condition(last_seen):
                await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait([waiting])
        return last_seen.describe("task-1")

    return asyncio.run(wait())


def test_last_seen_describes_last_error(connect):
    with ScriptedServer(PROCESSING, make_api_error("InternalError")) as server:
        connect(server.connection_uri())
        description = last_seen_when(lambda seen: seen.error_at)
    assert "was processing at 20" in description
    assert "could not be polled since (last error at 20" in description
    assert "InternalError" in description


def test_last_seen_drops_error_after_successful_poll(connect, monkeypatch):
    monkeypatch.setattr(PollInterval, "delay_after_errors", lambda *_: 0.01)
    with ScriptedServer(make_api_error("InternalError"), PROCESSING) as server:
        connect(server.connection_uri())
        description = last_seen_when(lambda seen: seen.processing_at)
    assert description.startswith("Task task-1 was still processing at 20")


def test_last_seen_describes_rejected_key(connect, monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.polling.intervals.FIRST_USE_GRACE_SECONDS", 300.0)
    with ScriptedServer(make_api_error("AuthFailure.SecretIdNotFound")) as server:
        connect(server.connection_uri())
        description = last_seen_when(lambda _: len(server.requests) >= 2)
    assert "AuthFailure.SecretIdNotFound" in description
