"""The shared poll loop: what an error about one task means for it, and for the others."""

import asyncio
import logging
from contextvars import ContextVar

import pytest

from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.errors import (
    InvalidRequestError,
    MpsPermanentError,
)
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.intervals import PollInterval
from airflow_provider_mps.text_to_speech import TaskStatus
from airflow_provider_mps.triggers import report
from airflow_provider_mps.triggers.poller import wait_for_task
from airflow_provider_mps.triggers.report import LastSeen
from tests import faulty_emulator
from tests.answers import PROCESSING
from tests.faulty_emulator import FaultyEmulator
from tests.scripted_server import HANG, RESET, ScriptedServer, api_error, json_reply
from tests.waiting import FAST, SUCCESS, names, task_of, wait_all


def test_throttled_answers_slow_down_count_against_nobody_and_all_finish(submit, told, connect):
    app = FaultyEmulator(Options(synthesis_time=1, voice="tone", rate_limit=1000))
    emulator, task_ids = submit(10, app)
    connect(f"{emulator.connection_uri}&requests_per_second=50")
    app.faults_of = lambda number: faulty_emulator.api_error("RequestLimitExceeded") if number % 2 else None
    outcomes = asyncio.run(wait_all(*task_ids))
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    assert told(logging.WARNING) == []


@pytest.mark.parametrize("fault", [api_error("InternalError"), RESET, json_reply({"no": "Response"})])
def test_an_error_that_may_pass_holds_back_that_task_alone_and_is_told(connect, fault, told):
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
    (warning,) = told(logging.WARNING)
    assert "task-0" in warning
    assert "still waiting" in warning


def test_an_answer_ends_the_row_of_errors(connect, monkeypatch):
    rows, after_errors = [], PollInterval.after_errors

    def note(interval, errors, chance):
        rows.append(errors)
        return min(after_errors(interval, errors, chance), 0.1)

    monkeypatch.setattr(PollInterval, "after_errors", note)
    fault = api_error("InternalError")
    with ScriptedServer(fault, fault, PROCESSING, fault, SUCCESS) as server:
        connect(server.connection_uri())
        asyncio.run(wait_all("task-1"))
    assert rows == [1, 2, 1]


def test_what_is_said_of_a_task_is_said_in_its_own_log(connect, monkeypatch):
    monkeypatch.setattr(report, "TELL_EVERY", 0.0)
    trigger = ContextVar("trigger", default=None)
    said = []

    class InContext(logging.Handler):
        def emit(self, record):
            said.append((record.levelno, trigger.get(), record.getMessage()))

    async def wait_as(name):
        trigger.set(name)
        await wait_for_task(name, FAST)

    async def both():
        await asyncio.gather(wait_as("task-0"), wait_as("task-1"))

    handler, logger = InContext(logging.INFO), logging.getLogger("airflow_provider_mps.triggers")
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.addHandler(handler)
    faults = [api_error("InternalError")]
    try:
        with ScriptedServer(
            lambda request: faults.pop() if task_of(request) == "task-1" and faults else SUCCESS
        ) as server:
            connect(server.connection_uri())
            asyncio.run(both())
    finally:
        logger.removeHandler(handler)
    assert [name for level, name, _ in said if level == logging.WARNING] == ["task-1"]
    assert {name for level, name, _ in said if level == logging.INFO} == {None}


def test_answers_that_never_come_are_waited_out(connect, told):
    with ScriptedServer(HANG, HANG, HANG, SUCCESS) as server:
        connect(server.connection_uri("timeout=1.5"))
        outcomes = asyncio.run(wait_all(*names(5)))
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    assert len(told(logging.WARNING)) == 3


def test_a_permanent_error_about_one_task_ends_it_and_no_other(emulator):
    task_id = MpsHook().submit_text_to_speech("hello", "voice")
    missing, task = asyncio.run(wait_all("no-such-task", task_id))
    assert isinstance(missing, MpsPermanentError)
    assert missing.code == "ResourceNotFound"
    assert task.status is TaskStatus.SUCCESS


@pytest.mark.parametrize("code", ["UnauthorizedOperation", "AuthFailure.UnauthorizedOperation"])
def test_a_permission_that_is_missing_for_one_task_ends_no_other(connect, code):
    with ScriptedServer(lambda request: api_error(code) if task_of(request) == "task-0" else SUCCESS) as server:
        connect(server.connection_uri())
        refused, *others = asyncio.run(wait_all(*names(10)))
    assert isinstance(refused, MpsPermanentError)
    assert "Grant" in str(refused) or code.startswith("AuthFailure")
    assert {task.status for task in others} == {TaskStatus.SUCCESS}


def test_what_is_wrong_with_the_connection_ends_it_for_all(connect, told):
    with ScriptedServer(api_error("IpNotInWhitelist")) as server:
        connect(server.connection_uri())
        outcomes = asyncio.run(wait_all(*names(20)))
    assert {type(error) for error in outcomes} == {MpsPermanentError}
    assert len(told(logging.WARNING)) == 1


@pytest.mark.parametrize("seconds", ["10", float("nan"), -1])
def test_an_interval_that_is_none_ends_that_waiting_alone(connect, seconds):
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


def test_what_nobody_foresaw_ends_the_waiting_for_that_task_and_is_raised(connect, monkeypatch):
    call_once = MpsHook.acall_once

    async def stumble(hook, call):
        if call.params["TaskId"] == "task-0":
            raise AttributeError("a bug")
        return await call_once(hook, call)

    monkeypatch.setattr(MpsHook, "acall_once", stumble)
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        error, task = asyncio.run(wait_all(*names(2)))
    assert isinstance(error, AttributeError)
    assert task.status is TaskStatus.SUCCESS


def test_a_bug_in_the_loop_itself_leaves_nobody_waiting(connect, monkeypatch):
    def stumble(*_):
        raise AttributeError("a bug")

    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        monkeypatch.setattr("airflow_provider_mps.triggers.pace.Pace.sent", stumble)
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


def test_last_seen_names_the_error_after_which_no_poll_succeeded(connect):
    with ScriptedServer(PROCESSING, api_error("InternalError")) as server:
        connect(server.connection_uri())
        description = last_seen_when(lambda seen: seen.error_at)
    assert "was processing at 20" in description
    assert "could not be polled since (last error at 20" in description
    assert "InternalError" in description


def test_last_seen_forgets_an_error_after_which_a_poll_succeeded(connect, monkeypatch):
    monkeypatch.setattr(PollInterval, "after_errors", lambda *_: 0.01)
    with ScriptedServer(api_error("InternalError"), PROCESSING) as server:
        connect(server.connection_uri())
        description = last_seen_when(lambda seen: seen.processing_at)
    assert description.startswith("Task task-1 was still processing at 20")


def test_last_seen_names_the_refusal_of_the_key(connect, monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.credential_gate.FIRST_USE_GRACE_SECONDS", 300.0)
    with ScriptedServer(api_error("AuthFailure.SecretIdNotFound")) as server:
        connect(server.connection_uri())
        description = last_seen_when(lambda _: len(server.requests) >= 2)
    assert "AuthFailure.SecretIdNotFound" in description
