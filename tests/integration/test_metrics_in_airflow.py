"""Metrics of the processes of a whole Airflow: workers and a triggerer."""

from __future__ import annotations

import pytest

from tests.integration.test_triggerer import await_

pytestmark = [pytest.mark.airflow_standalone, pytest.mark.xdist_group("triggerer")]

WAITS = 3


def test_triggerer_reports_how_many_tasks_wait(triggerer):
    tags = {"connection": "mps_counted", "operator": "TextToSpeechTaskTrigger"}
    task_ids = [triggerer.submit_slow(f"counted {number}", "voice-1") for number in range(WAITS)]
    runs = [
        triggerer.api.trigger("one", {"mps_task_id": task_id, "mps_conn_id": "mps_counted"}) for task_id in task_ids
    ]
    await_(lambda: WAITS in triggerer.statsd.gauges(**tags), 240)
    assert {metric.tags["hostname"] for metric in triggerer.statsd.metrics("mps.waiting", **tags)} != {""}
    triggerer.finish_slow_tasks()
    for run_id in runs:
        triggerer.api.wait("one", run_id)
    await_(lambda: triggerer.statsd.gauges(**tags)[-1] == 0)


def test_worker_counts_submitted_text(triggerer):
    tags = {"connection": "mps_default", "operator": "TextToSpeechOperator"}
    before = triggerer.statsd.sums(**tags)
    run_id = triggerer.api.trigger("pipeline")
    triggerer.api.wait("pipeline", run_id)
    after = triggerer.statsd.sums(**tags)
    assert after["submitted"] - before.get("submitted", 0) == 1
    assert after["characters"] - before.get("characters", 0) == len("hello")
    signature = triggerer.api.xcom("pipeline", run_id, "wait")["AudioUrl"].rpartition("sign=")[2]
    assert signature not in "".join(triggerer.statsd.read())
