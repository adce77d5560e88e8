from airflow_provider_mps.emulator.api import RateLimit


def test_rate_limit_holds_in_every_window_of_one_second():
    limit = RateLimit(20)
    assert [limit.admits("call", 0.01 * i) for i in range(25)].count(True) == 20
    assert not limit.admits("call", 0.999)
    assert limit.admits("call", 1.0)
    assert not limit.admits("call", 1.005)


def test_rate_limit_counts_each_action_separately():
    limit = RateLimit(1)
    assert limit.admits("submit", 0)
    assert limit.admits("query", 0)


def test_rate_limit_does_not_count_throttled_requests():
    limit = RateLimit(1)
    assert limit.admits("call", 0)
    assert not any(limit.admits("call", 0.1 * i) for i in range(1, 10))
    assert limit.admits("call", 1.0)
