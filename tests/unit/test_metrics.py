import logging
import sys

import pytest

from airflow_provider_mps import metrics
from airflow_provider_mps.exceptions import make_api_error
from airflow_provider_mps.metrics import Metrics, report_waiting
from tests.statsd import StatsdListener, send_stats

PLAIN = {"AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "False"}


@pytest.fixture
def listener():
    with StatsdListener() as listener:
        yield listener


def send(monkeypatch, listener, **environment):
    return send_stats(listener, monkeypatch, **environment)


def test_text_is_counted_with_connection_and_operator(listener, monkeypatch):
    with send(monkeypatch, listener), Metrics("mps_default", "MyOperator").observe_request(12):
        pass
    assert listener.read() == [
        "airflow.mps.submitted,connection=mps_default,operator=MyOperator:1|c",
        "airflow.mps.characters,connection=mps_default,operator=MyOperator:12|c",
    ]


def test_query_is_not_counted(listener, monkeypatch):
    with send(monkeypatch, listener), Metrics("mps_default").observe_request(0):
        pass
    assert listener.read() == []


@pytest.mark.parametrize(
    ("code", "characters", "expected"),
    [
        ("RequestLimitExceeded", 5, {"throttled": 1}),
        ("RequestLimitExceeded.Foo", 0, {"throttled": 1}),
        ("InternalError", 5, {"unknown": 1}),
        ("InternalError", 0, {}),
        ("AuthFailure", 5, {}),
        ("ClientNetworkError.NotSent", 5, {}),
    ],
)
def test_failed_request_is_counted_by_its_error(listener, monkeypatch, code, characters, expected):
    error = make_api_error(code, "injected")
    with send(monkeypatch, listener), pytest.raises(type(error)), Metrics("mps_default").observe_request(characters):
        raise error
    assert listener.sums() == expected


@pytest.mark.parametrize("environment", [{}, PLAIN])
def test_reserved_characters_of_a_connection_id_are_replaced(listener, monkeypatch, environment, caplog):
    with send(monkeypatch, listener, **environment):
        Metrics("team a/b:c|d,e=f\n").count_unknown()
    (metric,) = listener.metrics("mps.unknown")
    assert metric.tags == ({} if environment else {"connection": "team_a_b_c_d_e_f_", "operator": "MpsHook"})
    assert not caplog.records


def test_fractions_of_seconds_are_sent(listener, monkeypatch):
    with send(monkeypatch, listener):
        Metrics("mps_default").count_stored(100, 1.23456)
        Metrics("mps_default").count_stored(100, None)
    assert listener.sums() == {"stored": 2, "stored_bytes": 200, "audio_seconds": 1.235}


def test_prefix_and_allow_list_of_airflow_apply(listener, monkeypatch):
    environment = {
        "AIRFLOW__METRICS__STATSD_PREFIX": "speech",
        "AIRFLOW__METRICS__METRICS_ALLOW_LIST": "mps.stored_bytes,mps.unknown",
    }
    with send(monkeypatch, listener, **environment, **PLAIN):
        Metrics("mps_default").count_stored(100, 1)
        Metrics("mps_default").count_unknown()
    assert listener.read() == ["speech.mps.stored_bytes:100|c", "speech.mps.unknown:1|c"]


def test_gauge_has_the_host(listener, monkeypatch):
    with send(monkeypatch, listener):
        report_waiting({Metrics("one", "A"): 3, Metrics("two", "B"): 0})
    host = metrics.get_host()
    assert listener.read() == [
        f"airflow.mps.waiting,connection=one,operator=A,hostname={host}:3|g",
        f"airflow.mps.waiting,connection=two,operator=B,hostname={host}:0|g",
    ]


def test_gauge_without_tags_is_the_sum_of_the_process(listener, monkeypatch):
    monkeypatch.setattr(metrics, "get_host", lambda: "host-1.example")
    with send(monkeypatch, listener, **PLAIN):
        report_waiting({Metrics("one", "A"): 3, Metrics("two", "B"): 4})
    assert listener.read() == ["airflow.mps.waiting:7|g", "airflow.mps.waiting.host-1__example:7|g"]


def test_failing_stats_are_logged_once_and_raise_nothing(monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError("no metrics today")

    monkeypatch.setattr("airflow.sdk.observability.stats.Stats.incr", fail)
    monkeypatch.setattr("airflow.sdk.observability.stats.Stats.gauge", fail)
    metrics._log_failure.cache_clear()
    with caplog.at_level(logging.DEBUG, "airflow_provider_mps.metrics"):
        for _ in range(3):
            Metrics("mps_default").count_stored(1, 1)
            report_waiting({Metrics("mps_default"): 1})
    assert [(record.levelname, "no metrics today" in record.message) for record in caplog.records] == [("DEBUG", True)]


def test_unknown_statsd_host_fails_no_task(listener, monkeypatch):
    with send(monkeypatch, listener, AIRFLOW__METRICS__STATSD_HOST="statsd.invalid"):
        metrics.prepare_stats()
        Metrics("mps_default").count_unknown()
    assert listener.read() == []


def test_configured_host_name_that_fails_is_replaced(monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__HOSTNAME_CALLABLE", "no.such.function")
    metrics.get_host.cache_clear()
    assert metrics.get_host()
    metrics.get_host.cache_clear()


def test_without_configuration_nothing_is_sent_or_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "statsd", raising=False)
    Metrics("mps_default").count_stored(1, 1)
    report_waiting({Metrics("mps_default"): 1})
    assert "statsd" not in sys.modules
