"""The shared poll loop, over real HTTP."""

import asyncio
import gc
import json
import logging
import threading
import time
import traceback
from collections import Counter
from contextvars import ContextVar

import pytest

from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.errors import (
    InvalidMpsConnectionError,
    InvalidRequestError,
    MpsApiError,
    MpsPermanentError,
)
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.intervals import PollInterval
from airflow_provider_mps.text_to_speech import TaskStatus
from airflow_provider_mps.triggers import poller, report
from airflow_provider_mps.triggers.poller import wait_for_task
from tests import faulty_emulator
from tests.answers import PROCESSING
from tests.faulty_emulator import FaultyEmulator
from tests.scripted_server import HANG, RESET, ScriptedServer, api_error, json_reply

SUCCESS = json_reply({"Response": {"Status": "success", "VoiceId": "v", "RequestId": "req-1"}})
FAST = PollInterval(0.05)


async def wait_all(*task_ids, interval=FAST, **arguments):
    """Wait for all of them, and return what came of each: a task or an error."""
    waits = (wait_for_task(task_id, interval, **arguments) for task_id in task_ids)
    async with asyncio.timeout(60):
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
    assert_nothing_runs()
    return outcomes


async def wait_for_a_while(seconds, *task_ids):
    waits = [asyncio.create_task(wait_for_task(task_id, FAST)) for task_id in task_ids]
    await asyncio.sleep(seconds)
    for wait in waits:
        wait.cancel()
    await asyncio.wait(waits)


def assert_nothing_runs():
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not poller._pollers_of(asyncio.get_running_loop())._pollers


def task_of(request):
    return json.loads(request.body)["TaskId"]


def names(count):
    return [f"task-{number}" for number in range(count)]


@pytest.fixture
def submit(start_emulator):
    """Start an emulator and submit so many texts, whatever its quota is."""

    def start(count, app=None, **options):
        emulator = start_emulator(app, **options)
        hook = MpsHook()
        return emulator, [hook.submit_text_to_speech(f"hello {number}", "voice") for number in range(count)]

    return start


@pytest.fixture
def told(caplog):
    caplog.set_level(logging.INFO, logger="airflow_provider_mps.triggers")
    return lambda level: [
        record.message
        for record in caplog.records
        if record.levelno == level and record.name.startswith("airflow_provider_mps.triggers")
    ]


def test_each_gets_the_task_that_it_waited_for(submit):
    _, task_ids = submit(10, synthesis_time=(0.2, 1), rate_limit=1000)
    outcomes = asyncio.run(wait_all(*task_ids))
    assert [task.task_id for task in outcomes] == task_ids
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}


def test_a_failed_task_is_an_outcome_and_no_error(emulator):
    task_id = MpsHook().submit_text_to_speech("[fail] hello", "voice")
    (task,) = asyncio.run(wait_all(task_id))
    assert task.status is TaskStatus.FAIL


def test_a_missing_task_id_is_an_error_before_any_call(connect):
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        (error,) = asyncio.run(wait_all("None"))
        assert isinstance(error, InvalidRequestError)
        assert server.requests == []


def test_all_share_one_client_and_one_look_at_the_connection(submit, monkeypatch):
    looks, look_up = [], MpsHook._alook_up

    async def counted(hook):
        looks.append(hook)
        return await look_up(hook)

    monkeypatch.setattr(MpsHook, "_alook_up", counted)
    _, task_ids = submit(20, synthesis_time=0.5, rate_limit=1000)
    asyncio.run(wait_all(*task_ids))
    assert len(looks) == 1


def test_the_quota_is_never_used_up(submit, connect):
    app = FaultyEmulator(Options(synthesis_time=1.5, voice="tone", rate_limit=40))
    emulator, task_ids = submit(39, app)
    time.sleep(1)  # the submits do not count for the queries, but their connections have to close
    connect(f"{emulator.connection_uri}&requests_per_second=36")
    outcomes = asyncio.run(wait_all(*task_ids))
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    assert app.refused == 0
    assert len(app.actions) > 2 * len(task_ids)  # each was asked for at least twice


def test_with_more_tasks_than_the_budget_can_ask_at_once_all_take_turns(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri("requests_per_second=40"))
        asyncio.run(wait_for_a_while(2, *names(25)))
        asked = Counter(task_of(request) for request in server.requests)
    assert set(asked) == set(names(25))
    assert max(asked.values()) - min(asked.values()) <= 1


def test_who_is_due_first_is_asked_first(connect):
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri("requests_per_second=20"))

        async def late_ones_first():
            waits = [wait_for_task(f"in {delay}", FAST, first_poll_in=delay) for delay in (0.6, 0.2, 0.4, 0.0)]
            await asyncio.gather(*waits)

        asyncio.run(late_ones_first())
        assert [task_of(request) for request in server.requests] == ["in 0.0", "in 0.2", "in 0.4", "in 0.6"]


def test_several_requests_are_in_flight_but_not_too_many(connect):
    open_requests, most, lock, go_on = 0, 0, threading.Lock(), threading.Event()

    def hold(_):
        nonlocal open_requests, most
        with lock:
            open_requests += 1
            most = max(most, open_requests)
            if open_requests == 6:  # two seconds' worth
                threading.Timer(1, go_on.set).start()
        go_on.wait(20)
        with lock:
            open_requests -= 1
        return SUCCESS

    with ScriptedServer(hold) as server:
        connect(server.connection_uri("timeout=20&requests_per_second=3"))
        asyncio.run(wait_all(*names(10)))
    assert most == 6


def test_throttled_answers_slow_down_count_against_nobody_and_all_finish(submit, told):
    app = FaultyEmulator(Options(synthesis_time=1, voice="tone", rate_limit=1000))
    _, task_ids = submit(10, app)
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
        connect(server.connection_uri("timeout=0.5"))
        outcomes = asyncio.run(wait_all(*names(5)))
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    assert len(told(logging.WARNING)) == 3


def test_a_permanent_error_about_one_task_ends_it_and_no_other(emulator):
    task_id = MpsHook().submit_text_to_speech("hello", "voice")
    missing, task = asyncio.run(wait_all("no-such-task", task_id))
    assert isinstance(missing, MpsPermanentError)
    assert missing.code == "ResourceNotFound"
    assert task.status is TaskStatus.SUCCESS


def test_a_wrong_key_ends_it_for_all_at_once_with_one_warning(connect, told):
    with ScriptedServer(api_error("AuthFailure.SignatureFailure")) as server:
        connect(server.connection_uri("requests_per_second=100"))
        outcomes = asyncio.run(wait_all(*names(300)))
        assert len(server.requests) < 100
    assert {type(error) for error in outcomes} == {MpsPermanentError}
    assert all("Check Password (SecretKey)" in str(error) for error in outcomes)
    assert len(traceback.extract_tb(outcomes[-1].__traceback__)) < 10  # it does not grow with each who raises it
    (warning,) = told(logging.WARNING)
    assert "300 stop waiting" in warning


def test_one_refusal_of_the_key_ends_it_for_nobody(connect, told):
    refusals = [api_error("AuthFailure.SecretIdNotFound")]
    with ScriptedServer(lambda _: refusals.pop() if refusals else SUCCESS) as server:
        connect(server.connection_uri())
        outcomes = asyncio.run(wait_all(*names(20)))
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    assert told(logging.WARNING) == []


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


def test_a_missing_connection_ends_it_for_all(monkeypatch, airflow_database, told):
    monkeypatch.delenv("AIRFLOW_CONN_MPS_DEFAULT", raising=False)
    outcomes = asyncio.run(wait_all(*names(5), mps_conn_id="no_such_conn"))
    assert {type(error) for error in outcomes} == {InvalidMpsConnectionError}
    assert "no_such_conn" in str(outcomes[0])
    assert len(told(logging.WARNING)) == 1


def test_whoever_comes_after_a_wrong_key_looks_at_the_connection_anew(emulator, connect):
    task_id = MpsHook().submit_text_to_speech("hello", "voice")

    async def before_and_after():
        connect(emulator.connection_uri.replace("emulator-key", "wrong-key"))
        (error,) = await wait_all(task_id)
        connect(emulator.connection_uri)
        (task,) = await wait_all(task_id)
        return error, task

    error, task = asyncio.run(before_and_after())
    assert isinstance(error, MpsApiError)
    assert task.status is TaskStatus.SUCCESS


def test_a_key_that_is_replaced_in_the_connection_while_tasks_wait_is_used(connect, told):
    def answer(request):
        connect(server.connection_uri().replace("some-id", "new-id"))
        return api_error("AuthFailure.SecretIdNotFound") if "some-id" in request.headers["authorization"] else SUCCESS

    with ScriptedServer(answer) as server:
        connect(server.connection_uri())
        outcomes = asyncio.run(wait_all(*names(20)))
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    assert told(logging.WARNING) == []


def test_temporary_keys_that_end_while_tasks_wait_are_renewed_off_the_event_loop(connect):
    roles, went_on = [], []

    def serve(request):
        if request.headers["x-tc-action"] == "AssumeRole":
            answered = threading.Event()
            loop.call_soon_threadsafe(answered.set)  # reached too late where the loop is blocked
            went_on.append(answered.wait(5))
            roles.append(f"token-{len(roles)}")
            keys = {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": roles[-1]}
            return json_reply({"Response": {"Credentials": keys, "ExpiredTime": time.time() + 3600}})
        if request.headers["x-tc-token"] != "token-1":
            return api_error("AuthFailure.TokenFailure")
        return SUCCESS

    async def main():
        nonlocal loop
        loop = asyncio.get_running_loop()
        return await wait_all(*names(20))

    loop = None
    with ScriptedServer(serve) as server:
        connect(server.connection_uri("timeout=10&role_arn=arn"))
        outcomes = asyncio.run(main())
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    assert roles == ["token-0", "token-1"]
    assert went_on == [True, True]


def test_keys_may_end_again_and_again_as_long_as_the_new_ones_work(connect, told):
    answers = [PROCESSING, api_error("AuthFailure.TokenFailure")] * 6
    with ScriptedServer(*answers, SUCCESS) as server:
        connect(server.connection_uri())
        (task,) = asyncio.run(wait_all("task-1"))
        assert len(server.requests) == 13
    assert task.status is TaskStatus.SUCCESS
    assert told(logging.WARNING) == []


def test_a_key_that_is_refused_after_its_connection_was_deleted_says_that_it_is_gone(connect, monkeypatch):
    look_up, looks = MpsHook._alook_up, []

    async def only_once(hook):
        looks.append(hook)
        if len(looks) > 1:
            raise hook._no_connection()
        return await look_up(hook)

    monkeypatch.setattr(MpsHook, "_alook_up", only_once)
    with ScriptedServer(api_error("AuthFailure.SecretIdNotFound")) as server:
        connect(server.connection_uri())
        outcomes = asyncio.run(wait_all(*names(10)))
    assert {type(error) for error in outcomes} == {InvalidMpsConnectionError}
    assert "does not exist" in str(outcomes[0])


@pytest.mark.parametrize("when", ["at first", "while tasks wait"])
def test_a_connection_that_cannot_be_looked_up_for_now_is_waited_for(connect, monkeypatch, told, when):
    look_up, looks = MpsHook._alook_up, []

    async def stumble(hook):
        looks.append(hook)
        if (len(looks) <= 2) if when == "at first" else (len(looks) == 2):
            raise RuntimeError("the secrets backend is down")
        return await look_up(hook)

    monkeypatch.setattr(MpsHook, "_alook_up", stumble)
    refusals = [] if when == "at first" else [api_error("AuthFailure.TokenFailure")]
    with ScriptedServer(lambda _: refusals.pop() if refusals else SUCCESS) as server:
        connect(server.connection_uri())
        outcomes = asyncio.run(wait_all(*names(10)))
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    assert all("still trying: the secrets backend is down" in line for line in told(logging.WARNING))
    assert len(told(logging.WARNING)) == (2 if when == "at first" else 1)


def test_a_look_up_that_never_works_is_given_up(monkeypatch):
    async def stumble(_):
        raise RuntimeError("the secrets backend is gone")

    monkeypatch.setattr(MpsHook, "_alook_up", stumble)
    monkeypatch.setattr(poller, "_BETWEEN_FAILURES", PollInterval(0))
    monkeypatch.setattr(poller, "MAX_FAILURES", 2)
    outcomes = asyncio.run(wait_all(*names(3)))
    assert all("is gone" in repr(error) for error in outcomes)


def test_keys_that_take_long_to_renew_hold_up_nobody_else(connect):
    with ScriptedServer(HANG) as sts:
        connect(sts.connection_uri("timeout=20&role_arn=arn"))

        async def beside():
            waits = [asyncio.create_task(wait_for_task(name, FAST)) for name in names(30)]
            while not sts.requests:
                await asyncio.sleep(0.01)
            async with asyncio.timeout(5):
                await asyncio.gather(*(asyncio.to_thread(time.sleep, 0) for _ in range(20)))
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)
            assert len(sts.requests) == 1

        started = time.monotonic()
        asyncio.run(beside())
        assert time.monotonic() - started < 10  # the loop's end waits for no renewal either


def test_a_role_that_cannot_be_assumed_for_now_is_waited_for(connect):
    broken = [api_error("InternalError"), api_error("RequestLimitExceeded")]

    def serve(request):
        if request.headers["x-tc-action"] != "AssumeRole":
            return SUCCESS
        if broken:
            return broken.pop()
        keys = {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": "t"}
        return json_reply({"Response": {"Credentials": keys, "ExpiredTime": time.time() + 3600}})

    with ScriptedServer(serve) as server:
        connect(server.connection_uri("role_arn=arn"))
        outcomes = asyncio.run(wait_all(*names(3)))
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}


def test_who_is_cancelled_leaves_at_once_and_the_others_wait_on(connect):
    with ScriptedServer(HANG, PROCESSING) as server:
        connect(server.connection_uri("timeout=30"))

        async def cancel_one():
            waits = [asyncio.create_task(wait_for_task(name, FAST)) for name in names(2)]
            while len(server.requests) < 3:
                await asyncio.sleep(0.01)
            started = time.monotonic()
            waits[0].cancel()
            await asyncio.wait([waits[0]])
            assert time.monotonic() - started < 5  # its answer would take 30 s
            server.script[:] = [SUCCESS]
            task = await waits[1]
            assert_nothing_runs()
            return task

        assert asyncio.run(cancel_one()).task_id == "task-1"


def test_the_last_one_to_leave_closes_the_client(connect, monkeypatch):
    hooks, close = [], MpsHook.aclose

    async def closed(hook):
        hooks.append(await hook.aget_conn())
        await close(hook)

    monkeypatch.setattr(MpsHook, "aclose", closed)
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())

        async def leave_one_by_one():
            waits = [asyncio.create_task(wait_for_task(name, FAST)) for name in names(3)]
            while len(server.requests) < 3:
                await asyncio.sleep(0.01)
            for wait in waits:
                assert hooks == []
                wait.cancel()
                await asyncio.wait([wait])
            assert_nothing_runs()

        asyncio.run(leave_one_by_one())
    assert [client.http_client.is_closed for client in hooks] == [True]


def test_a_second_event_loop_works_and_nothing_of_the_first_is_kept(submit):
    _, task_ids = submit(3, rate_limit=1000)
    for _ in range(3):
        outcomes = asyncio.run(wait_all(*task_ids))
        assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    del outcomes
    gc.collect()
    assert len(poller._POLLERS) <= 1  # asgiref keeps hold of the last event loop


def test_event_loops_in_two_threads_do_not_meet(submit):
    _, task_ids = submit(10, synthesis_time=1, rate_limit=1000)
    outcomes = []
    threads = [
        threading.Thread(target=lambda half=half: outcomes.extend(asyncio.run(wait_all(*half))))
        for half in (task_ids[:5], task_ids[5:])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(task.task_id for task in outcomes) == sorted(task_ids)


def test_an_event_loop_that_is_shut_down_leaves_nobody_waiting(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())

        async def main():
            waits = [asyncio.create_task(wait_for_task(name, FAST)) for name in names(3)]
            while not server.requests:
                await asyncio.sleep(0.01)
            return waits

        assert all(wait.cancelled() for wait in asyncio.run(main()))


def test_two_connections_are_asked_apart_each_with_its_own_key(start_emulator, monkeypatch):
    first = start_emulator(secret_id="first-id", secret_key="first-key")
    ours = MpsHook().submit_text_to_speech("hello", "voice")
    second = start_emulator(secret_id="second-id", secret_key="second-key")
    theirs = MpsHook().submit_text_to_speech("hello", "voice")
    monkeypatch.setenv("AIRFLOW_CONN_MPS_FIRST", first.connection_uri)
    monkeypatch.setenv("AIRFLOW_CONN_MPS_SECOND", second.connection_uri)

    async def both():
        return await asyncio.gather(
            wait_for_task(ours, FAST, "mps_first"),
            wait_for_task(theirs, FAST, "mps_second"),
            wait_for_task(ours, FAST, "mps_second"),
            return_exceptions=True,
        )

    one, other, wrong = asyncio.run(both())
    assert [one.task_id, other.task_id] == [ours, theirs]
    assert wrong.code == "ResourceNotFound"


def test_one_region_has_one_budget_whoever_names_it(start_emulator, connect):
    app = FaultyEmulator(Options(synthesis_time=1.2, voice="tone", rate_limit=24))
    emulator = start_emulator(app)
    hook = MpsHook()
    task_ids = [hook.submit_text_to_speech(f"hello {number}", "voice") for number in range(20)]
    connect(f"{emulator.connection_uri}&requests_per_second=20")  # region=ap-singapore

    async def both():
        regions = [None, "ap-singapore"]
        waits = (wait_for_task(name, FAST, region=regions[number % 2]) for number, name in enumerate(task_ids))
        await asyncio.gather(*waits)

    asyncio.run(both())
    assert app.refused == 0


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


def test_who_has_left_is_not_remembered(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())

        async def come_and_go():
            stays = asyncio.create_task(wait_for_task("task-0", FAST))
            waits = [asyncio.create_task(wait_for_task("task-1", FAST, first_poll_in=3600)) for _ in range(1000)]
            while not server.requests:
                await asyncio.sleep(0.01)
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)
            (running,) = poller._pollers_of(asyncio.get_running_loop())._pollers.values()
            left = len(running._line)
            stays.cancel()
            await asyncio.wait([stays])
            return left

        assert asyncio.run(come_and_go()) <= poller.LEFT_OVER + 2


def test_requests_go_through_the_connections_proxy(connect):
    with ScriptedServer(SUCCESS) as proxy:
        connect(f"tencent-mps://id:key@mps.invalid/http?proxy=http%3A%2F%2F127.0.0.1%3A{proxy.port}")
        (task,) = asyncio.run(wait_all("task-1"))
    assert task.status is TaskStatus.SUCCESS
    assert proxy.requests[0].target.startswith("http://mps.invalid/")


def test_now_and_then_the_log_says_how_the_waiting_goes(connect, told, monkeypatch):
    monkeypatch.setattr(report, "TELL_EVERY", 0.5)
    with ScriptedServer(PROCESSING, api_error("RequestLimitExceeded"), PROCESSING) as server:
        connect(server.connection_uri("requests_per_second=20"))
        asyncio.run(wait_for_a_while(1.4, *names(3)))
        requests = len(server.requests)
    lines = told(logging.INFO)
    assert 1 <= len(lines) <= 2 < requests
    assert "'mps_default': 3 tasks are waiting" in lines[0]
    assert "of a budget of 20, 1 of them throttled" in lines[0]


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
