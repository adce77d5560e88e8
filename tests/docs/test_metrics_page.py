"""docs/metrics.md: its names, tags, intervals and options are those of the code and of Airflow."""

import re

import pytest
from airflow.configuration import conf

from airflow_provider_mps import metrics
from airflow_provider_mps.decorators.text_to_speech import _TextToSpeechDecoratedOperator
from airflow_provider_mps.metrics import Metrics, report_waiting
from airflow_provider_mps.polling.waiting_gauge import FIRST_REPORT_SECONDS, REPORT_INTERVAL_SECONDS
from tests.docs.pages import DOCS, read_blocks, read_section, read_tables
from tests.statsd import StatsdListener, send_stats

PAGE = DOCS / "metrics.md"
NAMES = {value for value in vars(metrics).values() if isinstance(value, str) and value.startswith("mps.")}


@pytest.fixture
def sent(monkeypatch):
    """One of each metric, as a StatsD server gets it."""
    with StatsdListener() as listener, send_stats(listener, monkeypatch):
        each = Metrics("mps_default", "TextToSpeechOperator")
        with each.observe_request(5):
            pass
        each.count_unknown()
        each.count_reconnect()
        each.count_stored(5, 5)
        each._increment(metrics.THROTTLED)
        report_waiting({each: 5})
        yield listener


def test_metric_table_has_names_and_types_of_the_code(sent):
    (rows,) = read_tables(read_section(PAGE, "Which metrics are there?").partition("### Tags")[0])
    types = {row["Metric"].strip("`"): row["Type"] for row in rows}
    assert types.keys() == NAMES
    assert types == {metric.name: {"c": "Counter", "g": "Gauge"}[metric.type] for metric in sent.metrics()}


def test_tag_table_has_tags_of_the_code(sent):
    (rows,) = read_tables(read_section(PAGE, "Tags"))
    tags = {name for metric in sent.metrics() for name in metric.tags}
    assert {row["Tag"].strip("`") for row in rows} == tags


def test_tag_table_names_the_class_of_decorated_tasks():
    name = _TextToSpeechDecoratedOperator.__name__
    assert f"Tasks of `@task.text_to_speech` have `{name}`" in read_section(PAGE, "Tags")


def test_example_shows_what_statsd_gets(sent):
    (example,) = read_blocks(PAGE, "text")
    shapes = {re.sub(r":[\d.]+\|", ":0|", datagram) for datagram in sent.read()}
    for line in example.replace("TextToSpeechToObjectStorageOperator", "TextToSpeechOperator").splitlines():
        assert re.sub(r":[\d.]+\|", ":0|", line) in shapes


def test_intervals_of_the_gauge_are_those_of_the_code():
    text = PAGE.read_text()
    assert f"Every {REPORT_INTERVAL_SECONDS:g} seconds" in text
    assert (FIRST_REPORT_SECONDS, "Waits under a second are not reported" in text) == (1.0, True)


def test_alerts_use_metrics_of_the_page():
    (rows,) = read_tables(read_section(PAGE, "What do I alert on?"))
    used = {name for row in rows for name in re.findall(r"airflow_(mps_\w+)", row["Expression"])}
    assert used <= {name.replace(".", "_") for name in NAMES}
    assert {row["Alert"] for row in rows if not re.search(r" (> [\d.]+|== 0)`$", row["Expression"])} == set()


def test_options_of_airflow_exist():
    text = PAGE.read_text()
    options = set(re.findall(r"\b(?:statsd|otel|metrics)_\w+\b", text)) - {"statsd_exporter"}
    options -= {"otel_host", "otel_port"}  # of Airflow before 3.2
    assert len(options) >= 5
    for option in options:
        assert conf.has_option("metrics", option), option
