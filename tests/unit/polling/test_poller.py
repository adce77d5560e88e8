"""The shared poll loop, over real HTTP: which task is polled when."""

import asyncio
import logging
import threading
import time
from collections import Counter

from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.polling import poller
from airflow_provider_mps.polling.poller import wait_for_task
from airflow_provider_mps.speech.task import TaskStatus
from tests.answers import PROCESSING
from tests.faulty_emulator import FaultyEmulator
from tests.scripted_server import ScriptedServer, make_api_error
from tests.waiting import FAST, SUCCESS, most_in_a_second, names, task_of, wait_all, wait_until


def test_wait_many_tasks_returns_each_own_task(submit):
    _, task_ids = submit(10, synthesis_time=(0.2, 1), rate_limit=1000)
    outcomes = asyncio.run(wait_all(*task_ids))
    assert [task.task_id for task in outcomes] == task_ids
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}


def test_wait_failed_task_returns_it(emulator):
    task_id = MpsHook().submit_text_to_speech("[fail] hello", "voice")
    (task,) = asyncio.run(wait_all(task_id))
    assert task.status is TaskStatus.FAIL


def test_wait_missing_task_id_raises_without_request(connect):
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        (error,) = asyncio.run(wait_all("None"))
        assert isinstance(error, InvalidRequestError)
        assert server.requests == []


def test_wait_many_tasks_share_one_connection_lookup(submit, monkeypatch):
    lookups, get_mps_connection = [], MpsHook.aget_mps_connection

    async def counted(hook):
        lookups.append(hook)
        return await get_mps_connection(hook)

    monkeypatch.setattr(MpsHook, "aget_mps_connection", counted)
    _, task_ids = submit(20, synthesis_time=0.5, rate_limit=1000)
    asyncio.run(wait_all(*task_ids))
    assert len(lookups) == 1


def test_poller_many_tasks_never_exceeds_the_quota(submit, connect, sent):
    app = FaultyEmulator(Options(synthesis_time=4, voice="tone", rate_limit=80))
    emulator, task_ids = submit(39, app)
    connect(f"{emulator.connection_uri}&requests_per_second=36")
    outcomes = asyncio.run(wait_all(*task_ids))
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    assert most_in_a_second(sent) < 40
    assert app.refused == 0
    assert app.actions.count("DescribeTextToSpeechAsyncTask") > 40  # more than one second's worth: it had to be paced


def test_poller_more_tasks_than_rate_polls_all_in_turn(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri("requests_per_second=40"))
        asyncio.run(wait_until(lambda: len(server.requests) >= 75, *names(25)))
        polls = Counter(task_of(request) for request in server.requests)
    assert set(polls) == set(names(25))
    assert max(polls.values()) - min(polls.values()) <= 1


def test_poller_polls_earliest_due_first(connect):
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri("requests_per_second=20"))

        async def wait_latest_first():
            waits = [wait_for_task(f"in-{delay}", FAST, first_poll_in=delay) for delay in (1.2, 0.4, 0.8, 0.0)]
            await asyncio.gather(*waits)

        asyncio.run(wait_latest_first())
        assert [task_of(request) for request in server.requests] == ["in-0.0", "in-0.4", "in-0.8", "in-1.2"]


def test_poller_slow_server_limits_requests_in_flight(connect):
    open_requests, most, lock, all_in_flight = 0, 0, threading.Lock(), threading.Event()

    def hold(_):
        nonlocal open_requests, most
        with lock:
            open_requests += 1
            most = max(most, open_requests)
            if open_requests == 6:  # two seconds' worth
                threading.Timer(1, all_in_flight.set).start()
        all_in_flight.wait(60)
        with lock:
            open_requests -= 1
        return SUCCESS

    with ScriptedServer(hold) as server:
        connect(server.connection_uri("timeout=60&requests_per_second=3"))
        asyncio.run(wait_all(*names(10)))
    assert most == 6


def test_poller_two_connections_use_their_own_keys(start_emulator, monkeypatch):
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


def test_poller_same_region_shares_one_rate_limit(start_emulator, connect, sent):
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


def test_poller_uses_the_connections_proxy(connect):
    with ScriptedServer(SUCCESS) as proxy:
        connect(f"tencent-mps://id:key@mps.invalid/http?proxy=http%3A%2F%2F127.0.0.1%3A{proxy.port}")
        (task,) = asyncio.run(wait_all("task-1"))
    assert task.status is TaskStatus.SUCCESS
    assert proxy.requests[0].target.startswith("http://mps.invalid/")


def test_poller_logs_stats_at_intervals(connect, logged, monkeypatch):
    interval_shortened_at = []

    def has_logged_twice():
        if len(server.requests) >= 10 and not interval_shortened_at:  # the one that is throttled has had its response
            monkeypatch.setattr(poller, "STATS_INTERVAL_SECONDS", 0.5)
            interval_shortened_at.append(time.monotonic())
        return len(logged(logging.INFO)) == 2

    with ScriptedServer(PROCESSING, make_api_error("RequestLimitExceeded"), PROCESSING) as server:
        connect(server.connection_uri("requests_per_second=20"))
        asyncio.run(wait_until(has_logged_twice, *names(3)))
        seconds = time.monotonic() - interval_shortened_at[0]
        requests = len(server.requests)
    lines = logged(logging.INFO)
    assert len(lines) == 2 < requests
    assert seconds >= 0.5
    assert "'mps_default': 3 tasks are waiting" in lines[0]
    assert "(rate limit 20), of which 1 were throttled" in lines[0]
