import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mps.polling.rate_limiter import (
    MIN_RATE_FRACTION,
    RECOVERY_SECONDS,
    THROTTLE_FACTOR,
    RateLimiter,
)


def send(rate_limiter, seconds, late=lambda: 0.0, now=0.0):
    """Send whenever the rate_limiter allows it, waking up a little late each time, and return when."""
    sent, end = [], now + seconds
    while now < end:
        now = max(now, rate_limiter.next_send_time(now)) + late()
        rate_limiter.record_request(now)
        sent.append(now)
    return sent


def most_in_a_second(sent):
    return max(sum(1 for other in sent if moment <= other < moment + 1) for moment in sent)


def test_rate_limiter_first_request_is_immediate():
    assert RateLimiter(18).next_send_time(100.0) <= 100.0


def test_rate_limiter_spaces_requests_evenly():
    sent = send(RateLimiter(20), 5)
    gaps = [later - sooner for sooner, later in pairwise(sent)]
    assert gaps == pytest.approx([1 / 20] * len(gaps))


@given(
    limit=st.floats(0.2, 60),
    seed=st.integers(),
    lateness=st.floats(0, 0.2),
)
def test_rate_limiter_never_exceeds_limit_in_any_second(limit, seed, lateness):
    generator = random.Random(seed)
    sent = send(RateLimiter(limit), 8, late=lambda: generator.random() * lateness)
    assert most_in_a_second(sent) <= max(1, int(limit))


@given(seed=st.integers())
def test_rate_limiter_varying_latency_stays_within_quota(seed):
    generator = random.Random(seed)
    arrived = sorted(moment + generator.random() * 0.1 for moment in send(RateLimiter(18), 8))
    assert most_in_a_second(arrived) <= 20


def test_rate_limiter_reaches_the_limit():
    assert len(send(RateLimiter(18), 600)) >= 600 * 18


def test_rate_limiter_late_wakeups_do_not_add_up():
    assert len(send(RateLimiter(18), 60, late=lambda: 0.003)) / 60 > 17.9


def test_rate_limiter_late_first_request_does_not_shorten_the_rest():
    rate_limiter = RateLimiter(20)
    rate_limiter.record_request(100.0)
    rate_limiter.record_sending(100.0, 100.03)
    assert rate_limiter.next_send_time(100.0) == pytest.approx(100.08)


def test_rate_limiter_late_later_request_keeps_its_slot():
    rate_limiter = RateLimiter(20)
    rate_limiter.record_request(100.0)
    rate_limiter.record_sending(100.0, 100.0)
    rate_limiter.record_request(100.05)
    rate_limiter.record_sending(100.05, 100.08)
    assert rate_limiter.next_send_time(100.05) == pytest.approx(100.1)


def test_rate_limiter_idle_time_allows_no_burst():
    rate_limiter = RateLimiter(10)
    rate_limiter.record_request(0.0)
    sent = send(rate_limiter, 1, now=100.0)
    assert most_in_a_second(sent) <= 10
    assert sent[2] - sent[1] == pytest.approx(1 / 10)


def test_rate_limiter_throttle_lowers_the_rate():
    rate_limiter = RateLimiter(20)
    rate_limiter.record_throttle(sent_at=1.0, now=1.1)
    assert rate_limiter.get_rate(1.1) == pytest.approx(20 * THROTTLE_FACTOR)


def test_rate_limiter_throttles_in_flight_count_once():
    rate_limiter = RateLimiter(20)
    for sent_at in (1.0, 1.02, 1.05):
        rate_limiter.record_throttle(sent_at, now=1.1)
    assert rate_limiter.get_rate(1.1) == pytest.approx(20 * THROTTLE_FACTOR)
    rate_limiter.record_throttle(sent_at=1.2, now=1.3)
    assert rate_limiter.get_rate(1.3) == pytest.approx(20 * THROTTLE_FACTOR**2, rel=0.01)


def test_rate_limiter_rate_has_a_minimum():
    rate_limiter = RateLimiter(20)
    for number in range(100):
        rate_limiter.record_throttle(sent_at=number, now=number + 0.5)
    assert rate_limiter.get_rate(99.5) == pytest.approx(20 * MIN_RATE_FRACTION)


def test_rate_limiter_recovers_to_the_limit():
    rate_limiter = RateLimiter(20)
    rate_limiter.record_throttle(sent_at=0.0, now=0.0)
    assert 20 * THROTTLE_FACTOR < rate_limiter.get_rate(10) < 20
    assert rate_limiter.get_rate(RECOVERY_SECONDS) == 20


def test_rate_limiter_new_limit_counts_earlier_requests():
    rate_limiter = RateLimiter(10)
    send(rate_limiter, 1)
    rate_limiter.requests_per_second = 5
    assert most_in_a_second(send(rate_limiter, 2, now=1.0)) <= 5
