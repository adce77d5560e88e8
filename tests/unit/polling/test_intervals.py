import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.polling.intervals import (
    MAX_BACKOFF_SECONDS,
    MIN_JITTERED_SECONDS,
    PollInterval,
    add_jitter,
    get_earlier_limit,
)

FRACTION = st.floats(0, 1)


@given(polls=st.integers(1, 10_000), fraction=FRACTION)
def test_delay_after_polls_without_backoff_is_constant(polls, fraction):
    assert PollInterval(30).delay_after_polls(polls, fraction) == 30


def test_delay_after_polls_with_backoff_doubles():
    interval = PollInterval(10, exponential_backoff=True)
    assert [interval.delay_after_polls(polls, 0) for polls in (1, 2, 3, 4)] == [5, 10, 20, 40]
    assert [interval.delay_after_polls(polls, 1) for polls in (1, 2, 3, 4)] == [10, 20, 40, 80]


@given(polls=st.integers(1, 10_000), fraction=FRACTION)
def test_delay_after_polls_respects_max_wait(polls, fraction):
    assert PollInterval(10, exponential_backoff=True, max_wait=25).delay_after_polls(polls, fraction) <= 25


@given(errors=st.integers(1, 10_000), fraction=FRACTION, seconds=st.floats(0, 1000))
def test_delay_after_errors_stays_within_bounds(errors, fraction, seconds):
    wait = PollInterval(seconds).delay_after_errors(errors, fraction)
    assert seconds <= wait <= max(seconds, MAX_BACKOFF_SECONDS)


@pytest.mark.parametrize("seconds", [None, "10", timedelta(seconds=10), True, -1, float("nan"), float("inf")])
def test_poll_interval_invalid_seconds_raises(seconds):
    with pytest.raises(InvalidRequestError, match="not a number of seconds"):
        PollInterval(seconds)
    if seconds is not None:
        with pytest.raises(InvalidRequestError, match="not a number of seconds"):
            PollInterval(10, max_wait=seconds)


def test_delay_after_errors_doubles_up_to_maximum():
    waits = [PollInterval(5).delay_after_errors(errors, 1) for errors in range(1, 6)]
    assert waits == [10, 20, 30, 30, 30]


@given(fraction=FRACTION, throttled=st.booleans(), interval=st.floats(MIN_JITTERED_SECONDS, 1e6))
def test_add_jitter_stays_within_bounds(fraction, throttled, interval):
    wait = add_jitter(interval, fraction, throttled=throttled)
    assert max(MIN_JITTERED_SECONDS, 0.75 * interval) <= wait <= (2 if throttled else 1.25) * interval * 1.000001


def test_add_jitter_keeps_the_mean():
    waits = [add_jitter(60, number / 1000, throttled=False) for number in range(1001)]
    assert sum(waits) / len(waits) == pytest.approx(60)
    assert max(waits) - min(waits) == pytest.approx(30)


@given(fraction=FRACTION, interval=st.floats(0.01, MIN_JITTERED_SECONDS))
def test_add_jitter_short_interval_is_not_shortened(fraction, interval):
    assert add_jitter(interval, fraction, throttled=False) >= interval


def test_add_jitter_throttled_doubles_the_range():
    assert add_jitter(60, 1, throttled=True) == 120
    assert add_jitter(60, 0, throttled=True) == 60


@pytest.mark.parametrize(
    ("timeout", "execution_timeout", "limit"),
    [
        (60.0, None, "timeout (60 s)"),
        (60.0, timedelta(seconds=90), "timeout (60 s)"),
        (60.0, timedelta(seconds=60), "execution_timeout (60 s)"),
        (60.0, timedelta(0), "timeout (60 s)"),
        (math.inf, timedelta(seconds=1.5), "execution_timeout (1.5 s)"),
    ],
)
def test_get_earlier_limit_returns_the_first_to_end(timeout, execution_timeout, limit):
    assert str(get_earlier_limit(timeout, execution_timeout)) == limit
