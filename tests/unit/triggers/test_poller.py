"""The shared poll loop, over real HTTP: who is asked for when."""

import asyncio
import logging
import threading
import time
from collections import Counter

from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.errors import (
    InvalidRequestError,
)
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.text_to_speech import TaskStatus
from airflow_provider_mps.triggers import report
from airflow_provider_mps.triggers.poller import wait_for_task
from tests.answers import PROCESSING
from tests.faulty_emulator import FaultyEmulator
from tests.scripted_server import ScriptedServer, api_error
from tests.waiting import FAST, SUCCESS, most_in_a_second, names, task_of, wait_all, wait_until


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


def test_the_quota_is_never_used_up(submit, connect, sent):
    app = FaultyEmulator(Options(synthesis_time=4, voice="tone", rate_limit=80))
    emulator, task_ids = submit(39, app)
    connect(f"{emulator.connection_uri}&requests_per_second=36")
    outcomes = asyncio.run(wait_all(*task_ids))
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    assert most_in_a_second(sent) < 40
    assert app.refused == 0
    assert app.actions.count("DescribeTextToSpeechAsyncTask") > 40  # more than one second's worth: it had to be paced


def test_with_more_tasks_than_the_budget_can_ask_at_once_all_take_turns(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri("requests_per_second=40"))
        asyncio.run(wait_until(lambda: len(server.requests) >= 75, *names(25)))
        asked = Counter(task_of(request) for request in server.requests)
    assert set(asked) == set(names(25))
    assert max(asked.values()) - min(asked.values()) <= 1


def test_who_is_due_first_is_asked_first(connect):
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri("requests_per_second=20"))

        async def late_ones_first():
            waits = [wait_for_task(f"in-{delay}", FAST, first_poll_in=delay) for delay in (1.2, 0.4, 0.8, 0.0)]
            await asyncio.gather(*waits)

        asyncio.run(late_ones_first())
        assert [task_of(request) for request in server.requests] == ["in-0.0", "in-0.4", "in-0.8", "in-1.2"]


def test_several_requests_are_in_flight_but_not_too_many(connect):
    open_requests, most, lock, go_on = 0, 0, threading.Lock(), threading.Event()

    def hold(_):
        nonlocal open_requests, most
        with lock:
            open_requests += 1
            most = max(most, open_requests)
            if open_requests == 6:  # two seconds' worth
                threading.Timer(1, go_on.set).start()
        go_on.wait(60)
        with lock:
            open_requests -= 1
        return SUCCESS

    with ScriptedServer(hold) as server:
        connect(server.connection_uri("timeout=60&requests_per_second=3"))
        asyncio.run(wait_all(*names(10)))
    assert most == 6


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


def test_one_region_has_one_budget_whoever_names_it(start_emulator, connect, sent):
    app = FaultyEmulator(Options(synthesis_time=1.2, voice="tone", rate_limit=48))
    emulator = start_emulator(app)
    hook = MpsHook()
    task_ids = [hook.submit_text_to_speech(f"hello {number}", "voice") for number in range(20)]
    connect(f"{emulator.connection_uri}&requests_per_second=20")  # region=ap-singapore

    async def both():
        regions = [None, "ap-singapore"]
        waits = (wait_for_task(name, FAST, region=regions[number % 2]) for number, name in enumerate(task_ids))
        await asyncio.gather(*waits)

    asyncio.run(both())
    assert most_in_a_second(sent) <= 24
    assert app.refused == 0


def test_requests_go_through_the_connections_proxy(connect):
    with ScriptedServer(SUCCESS) as proxy:
        connect(f"tencent-mps://id:key@mps.invalid/http?proxy=http%3A%2F%2F127.0.0.1%3A{proxy.port}")
        (task,) = asyncio.run(wait_all("task-1"))
    assert task.status is TaskStatus.SUCCESS
    assert proxy.requests[0].target.startswith("http://mps.invalid/")


def test_now_and_then_the_log_says_how_the_waiting_goes(connect, told, monkeypatch):
    quicker_since = []

    def has_said_it_twice():
        if len(server.requests) >= 10 and not quicker_since:  # the one that is throttled has had its response
            monkeypatch.setattr(report, "TELL_EVERY", 0.5)
            quicker_since.append(time.monotonic())
        return len(told(logging.INFO)) == 2

    with ScriptedServer(PROCESSING, api_error("RequestLimitExceeded"), PROCESSING) as server:
        connect(server.connection_uri("requests_per_second=20"))
        asyncio.run(wait_until(has_said_it_twice, *names(3)))
        seconds = time.monotonic() - quicker_since[0]
        requests = len(server.requests)
    lines = told(logging.INFO)
    assert len(lines) == 2 < requests
    assert seconds >= 0.5
    assert "'mps_default': 3 tasks are waiting" in lines[0]
    assert "of a budget of 20, 1 of them throttled" in lines[0]
