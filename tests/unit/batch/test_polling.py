"""How soon a batch notices that its lines are done, and how many polls it wastes, in simulated time."""

import asyncio
import gc
import statistics

import pytest

from airflow_provider_mps.batch.line import ManifestLine
from airflow_provider_mps.polling.poller import wait_for_task
from benchmarks.batch_polls import (
    INTERVAL,
    LATENCIES,
    REQUESTS_PER_SECOND,
    RESPONSE_SECONDS,
    make_interval_wait,
    make_latencies,
    simulate,
)

LINES = 2000
MAX_WASTED = {
    "30 to 90 s": 0.75,
    "1 to 9 s": 0.0,
    "60 s": 0.6,
    "5 s, or 120 s for 30 %": 1.05,
    "exponential, mean 60 s": 1.6,
    "10 to 30 s, or 20 minutes for 3 %": 3.5,
    "300 to 600 s": 5.1,
    "rises from 30 to 120 s": 1.15,
    "falls from 120 to 30 s": 1.1,
}
"""Polls per line that find it unfinished. Most are sent before the first lines are done, and delay nothing."""


@pytest.mark.slow
@pytest.mark.parametrize("name", LATENCIES)
@pytest.mark.parametrize("seed", [1, 2])
def test_busy_batch_notices_lines_in_time_and_wastes_few_polls(name, seed):
    latencies = make_latencies(name, LINES, seed)
    outcome = simulate(latencies)
    half_cycle = LINES / REQUESTS_PER_SECOND / 2  # an unfinished line loses its head start over newer ones
    assert max(outcome.ages) <= 1.1 * max(latencies) + half_cycle + INTERVAL + 1
    assert outcome.seconds <= 1.1 * outcome.least_seconds
    assert outcome.wasted <= MAX_WASTED[name]


@pytest.mark.slow
def test_ten_thousand_lines_take_as_long_as_quota_requires():
    latencies = make_latencies("30 to 90 s", 10_000, 1)
    outcome = simulate(latencies)
    assert outcome.seconds <= 10_000 / REQUESTS_PER_SECOND + 90 + 1
    assert outcome.wasted <= 0.15


@pytest.mark.parametrize("latency", [3, 12, 60])
def test_short_batch_polls_each_line_every_interval(latency):
    outcome, expected = simulate([latency] * 20), simulate([latency] * 20, make_interval_wait())
    assert outcome.first_poll_ages == expected.first_poll_ages
    assert max(outcome.first_poll_ages) <= INTERVAL + RESPONSE_SECONDS + 20 / REQUESTS_PER_SECOND
    assert outcome.delays == expected.delays
    assert max(outcome.delays) <= INTERVAL + RESPONSE_SECONDS + 20 / REQUESTS_PER_SECOND


@pytest.mark.slow
def test_lines_that_never_end_do_not_hold_up_the_others():
    outcome = simulate([3600.0] * 300 + [20.0] * 1000)
    assert max(outcome.ages[300:]) <= 400


@pytest.mark.slow
@pytest.mark.parametrize(("slow", "quick"), [(500, 2000), (1000, 1000), (2000, 2000)])
def test_slow_lines_delay_quick_ones_behind_them_little_more_than_the_order_by_due_time(slow, quick):
    latencies = [1800.0] * slow + [8.0] * quick
    outcome, expected = simulate(latencies), simulate(latencies, make_interval_wait())
    assert statistics.mean(outcome.delays[slow:]) <= 2.25 * statistics.mean(expected.delays[slow:])
    assert max(outcome.delays[slow:]) <= 2 * max(expected.delays[slow:])
    assert outcome.seconds <= 1.01 * expected.seconds


def test_waiting_line_keeps_no_text_in_memory():
    remaining = []

    async def wait(*arguments, **options):
        await asyncio.sleep(60)
        if not remaining:
            gc.collect()
            remaining.append([found for found in gc.get_objects() if type(found) is ManifestLine])
        return await wait_for_task(*arguments, **options)

    simulate([1.0] * 50, wait)
    assert remaining == [[]]
