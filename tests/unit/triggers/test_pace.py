import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mps.triggers.pace import FLOOR, RECOVERY, SLOWER, WINDOW, Pace


def send(pace, seconds, late=lambda: 0.0, now=0.0):
    """Send whenever the pace allows it, waking up a little late each time, and return when."""
    sent, end = [], now + seconds
    while now < end:
        now = max(now, pace.next_slot(now)) + late()
        pace.sent(now)
        sent.append(now)
    return sent


def most_in_a_second(sent):
    return max(sum(1 for other in sent if moment <= other < moment + 1) for moment in sent)


def test_the_first_request_may_go_at_once():
    assert Pace(18).next_slot(100.0) <= 100.0


def test_requests_are_spaced_evenly():
    sent = send(Pace(20), 5)
    gaps = [later - sooner for sooner, later in pairwise(sent)]
    assert gaps == pytest.approx([WINDOW / 20] * len(gaps))


@given(
    budget=st.floats(0.2, 60),
    seed=st.integers(),
    lateness=st.floats(0, 0.2),
)
def test_no_window_of_one_second_ever_holds_more_than_the_budget(budget, seed, lateness):
    chance = random.Random(seed)
    sent = send(Pace(budget), 8, late=lambda: chance.random() * lateness)
    assert most_in_a_second(sent) <= max(1, int(budget))


@given(seed=st.integers())
def test_no_second_of_the_server_holds_more_than_the_budget_where_the_way_varies_a_little(seed):
    chance = random.Random(seed)
    arrived = sorted(moment + chance.random() * 0.019 for moment in send(Pace(18), 8))
    assert most_in_a_second(arrived) <= 18


def test_waking_late_does_not_add_up():
    assert len(send(Pace(18), 60, late=lambda: 0.003)) / 60 > 17.5


def test_idle_time_is_not_saved_for_a_burst():
    pace = Pace(10)
    pace.sent(0.0)
    sent = send(pace, 1, now=100.0)
    assert most_in_a_second(sent) <= 10
    assert sent[2] - sent[1] == pytest.approx(WINDOW / 10)


def test_a_refusal_slows_down_by_a_factor():
    pace = Pace(20)
    pace.refused(sent_at=1.0, now=1.1)
    assert pace.rate(1.1) == pytest.approx(20 * SLOWER)


def test_refusals_of_requests_that_were_on_their_way_already_slow_down_once():
    pace = Pace(20)
    for sent_at in (1.0, 1.02, 1.05):
        pace.refused(sent_at, now=1.1)
    assert pace.rate(1.1) == pytest.approx(20 * SLOWER)
    pace.refused(sent_at=1.2, now=1.3)
    assert pace.rate(1.3) == pytest.approx(20 * SLOWER**2, rel=0.01)


def test_it_never_falls_below_a_floor():
    pace = Pace(20)
    for number in range(100):
        pace.refused(sent_at=number, now=number + 0.5)
    assert pace.rate(99.5) == pytest.approx(20 * FLOOR)


def test_calm_speeds_it_up_again_to_the_budget_and_no_further():
    pace = Pace(20)
    pace.refused(sent_at=0.0, now=0.0)
    assert 20 * SLOWER < pace.rate(10) < 20
    assert pace.rate(RECOVERY) == 20


def test_a_new_budget_counts_what_was_sent_under_the_old_one():
    pace = Pace(10)
    send(pace, 1)
    pace.budget = 5
    assert most_in_a_second(send(pace, 2, now=1.0)) <= 5
