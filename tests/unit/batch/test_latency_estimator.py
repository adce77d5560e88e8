import random

from airflow_provider_mps.batch.line_processor import LatencyEstimator


def test_first_poll_delay_without_latencies_is_the_interval():
    assert LatencyEstimator().first_poll_delay(10) == 10


def test_first_poll_delay_is_just_below_the_median_latency():
    estimator = LatencyEstimator()
    for seconds in (30, 60, 90):
        estimator.record(seconds)
    assert estimator.first_poll_delay(10) == 54


def test_first_poll_delay_is_at_least_the_interval():
    estimator = LatencyEstimator()
    estimator.record(1)
    assert estimator.first_poll_delay(10) == 10


def test_first_poll_delay_is_stable_and_follows_changes():
    estimator, rng = LatencyEstimator(), random.Random(1)

    def process_lines(fastest, slowest):
        for _ in range(2000):
            done_at, polled_at = rng.uniform(fastest, slowest), estimator.first_poll_delay(10)
            while polled_at < done_at:
                polled_at += 10
            estimator.record(polled_at)

    process_lines(30, 90)
    assert 40 < estimator.first_poll_delay(10) < 80
    process_lines(3, 9)
    assert estimator.first_poll_delay(10) == 10
