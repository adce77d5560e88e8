from airflow_provider_mps.emulator.rate_limit import RateLimit


def test_no_window_of_one_second_holds_more_than_the_limit():
    limit = RateLimit(20)
    assert [limit.admits("call", 0.01 * i) for i in range(25)].count(True) == 20
    assert not limit.admits("call", 0.999)
    assert limit.admits("call", 1.0)
    assert not limit.admits("call", 1.005)


def test_each_call_has_a_quota_of_its_own():
    limit = RateLimit(1)
    assert limit.admits("submit", 0)
    assert limit.admits("query", 0)


def test_what_was_refused_does_not_count():
    limit = RateLimit(1)
    assert limit.admits("call", 0)
    assert not any(limit.admits("call", 0.1 * i) for i in range(1, 10))
    assert limit.admits("call", 1.0)
