import asyncio

import pytest

from airflow_provider_mps.metrics import Metrics
from airflow_provider_mps.polling import waiting_gauge
from airflow_provider_mps.polling.intervals import PollInterval
from airflow_provider_mps.polling.poller import wait_for_task
from airflow_provider_mps.polling.waiting_gauge import WaitingGauge, get_waiting_gauge
from airflow_provider_mps.triggers.text_to_speech import TextToSpeechTaskTrigger
from tests.answers import PROCESSING
from tests.scripted_server import ScriptedServer
from tests.simulated_time import run_in_simulated_time
from tests.waiting import SUCCESS

ONE, TWO = Metrics("one", "A"), Metrics("two", "B")


@pytest.fixture
def reports(monkeypatch):
    """The reports, each with its time."""
    reports = []

    def report(counts):
        reports.append((round(asyncio.get_running_loop().time()), {**counts}))

    async def run_at_once(function):
        function()

    monkeypatch.setattr(waiting_gauge, "report_waiting", report)
    monkeypatch.setattr(waiting_gauge, "run_in_daemon_thread", run_at_once)
    return reports


async def wait(gauge, metrics, seconds):
    with gauge.count(metrics):
        await asyncio.sleep(seconds)


async def run(*waits):
    gauge = WaitingGauge()
    started = round(asyncio.get_running_loop().time())
    await asyncio.gather(*(wait(gauge, *each) for each in waits))
    return started


def test_waits_are_reported_every_interval_and_end_with_zero(reports):
    started = run_in_simulated_time(run((ONE, 25), (ONE, 15), (TWO, 15)))
    assert [(at - started, counts) for at, counts in reports] == [
        (1, {ONE: 2, TWO: 1}),
        (11, {ONE: 2, TWO: 1}),
        (21, {ONE: 1, TWO: 0}),
        (25, {ONE: 0}),
    ]


def test_short_wait_is_not_reported(reports):
    run_in_simulated_time(run((ONE, 0.5)))
    assert reports == []


def test_cancelled_wait_ends_with_zero(reports):
    async def cancel():
        waiting = asyncio.create_task(run((ONE, 60)))
        await asyncio.sleep(5)
        waiting.cancel()
        await asyncio.wait([waiting])

    run_in_simulated_time(cancel())
    assert [counts for _, counts in reports] == [{ONE: 1}, {ONE: 0}]


def test_later_waits_are_reported_again(reports):
    async def twice():
        gauge = WaitingGauge()
        for _ in range(2):
            await wait(gauge, ONE, 5)

    run_in_simulated_time(twice())
    assert [counts for _, counts in reports] == [{ONE: 1}, {ONE: 0}] * 2


def test_reporter_that_failed_is_started_again(reports, monkeypatch):
    failures = [RuntimeError("can't start new thread")]

    async def fail_once(_):
        if failures:
            raise failures.pop()

    async def wait_again():
        gauge = WaitingGauge()
        with gauge.count(ONE):
            await asyncio.sleep(5)
            await wait(gauge, ONE, 5)

    monkeypatch.setattr(waiting_gauge, "run_in_daemon_thread", fail_once)
    run_in_simulated_time(wait_again())
    assert [counts for _, counts in reports] == [{ONE: 2}, {ONE: 0}]


def test_only_waits_of_triggers_are_counted(connect, reports, monkeypatch):
    monkeypatch.setattr(waiting_gauge, "FIRST_REPORT_SECONDS", 0.0)

    async def both():
        assert get_waiting_gauge() is get_waiting_gauge()
        trigger = TextToSpeechTaskTrigger("task-1", poll_interval=0.2)
        async for _ in trigger.run():
            pass
        await wait_for_task("task-2", PollInterval(0.2))

    with ScriptedServer(PROCESSING, SUCCESS, PROCESSING, SUCCESS) as server:
        connect(server.connection_uri())
        asyncio.run(both())
    metrics = Metrics("mps_default", "TextToSpeechTaskTrigger")
    assert [counts for _, counts in reports] == [{metrics: 1}, {metrics: 0}]
