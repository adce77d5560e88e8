import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mps.errors import InvalidRequestError
from airflow_provider_mps.intervals import LONGEST_BACKOFF, SHORT, PollInterval, earlier_limit, spread

CHANCE = st.floats(0, 1)


@given(answers=st.integers(1, 10_000), chance=CHANCE)
def test_without_backoff_every_interval_is_the_same(answers, chance):
    assert PollInterval(30).after_answers(answers, chance) == 30


def test_exponential_backoff_doubles_with_every_answer():
    interval = PollInterval(10, exponential_backoff=True)
    assert [interval.after_answers(answers, 0) for answers in (1, 2, 3, 4)] == [5, 10, 20, 40]
    assert [interval.after_answers(answers, 1) for answers in (1, 2, 3, 4)] == [10, 20, 40, 80]


@given(answers=st.integers(1, 10_000), chance=CHANCE)
def test_max_wait_is_never_exceeded(answers, chance):
    assert PollInterval(10, exponential_backoff=True, max_wait=25).after_answers(answers, chance) <= 25


@given(errors=st.integers(1, 10_000), chance=CHANCE, seconds=st.floats(0, 1000))
def test_errors_hold_a_task_back_longer_than_its_interval_but_not_for_long(errors, chance, seconds):
    wait = PollInterval(seconds).after_errors(errors, chance)
    assert seconds <= wait <= max(seconds, LONGEST_BACKOFF)


@pytest.mark.parametrize("seconds", [None, "10", timedelta(seconds=10), True, -1, float("nan"), float("inf")])
def test_what_is_no_number_of_seconds_is_refused(seconds):
    with pytest.raises(InvalidRequestError, match="no number of seconds"):
        PollInterval(seconds)
    if seconds is not None:
        with pytest.raises(InvalidRequestError, match="no number of seconds"):
            PollInterval(10, max_wait=seconds)


def test_errors_in_a_row_hold_back_longer_and_longer():
    waits = [PollInterval(5).after_errors(errors, 1) for errors in range(1, 6)]
    assert waits == [10, 20, 30, 30, 30]


@given(chance=CHANCE, throttled=st.booleans(), interval=st.floats(SHORT, 1e6))
def test_spreading_changes_an_interval_by_chance_and_within_bounds(chance, throttled, interval):
    wait = spread(interval, chance, throttled=throttled)
    assert max(SHORT, 0.75 * interval) <= wait <= (2 if throttled else 1.25) * interval * 1.000001


def test_spreading_keeps_the_mean():
    waits = [spread(60, number / 1000, throttled=False) for number in range(1001)]
    assert sum(waits) / len(waits) == pytest.approx(60)
    assert max(waits) - min(waits) == pytest.approx(30)


@given(chance=CHANCE, interval=st.floats(0.01, SHORT))
def test_what_is_short_is_only_lengthened(chance, interval):
    assert spread(interval, chance, throttled=False) >= interval


def test_a_throttled_poke_spreads_the_next_over_twice_the_interval():
    assert spread(60, 1, throttled=True) == 120
    assert spread(60, 0, throttled=True) == 60


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
def test_earlier_limit_is_the_one_that_ends_a_wait(timeout, execution_timeout, limit):
    assert str(earlier_limit(timeout, execution_timeout)) == limit
