"""A stored clip creates an asset event, in a running Airflow."""

import time

import pytest

pytestmark = [pytest.mark.airflow_standalone, pytest.mark.xdist_group("triggerer")]


@pytest.mark.example_dag("text_to_speech_published")
def test_stored_clip_triggers_dag_scheduled_on_asset(triggerer, tmp_path):
    destination = f"file://{tmp_path}/clip.wav"
    run_id = triggerer.api.trigger("text_to_speech", {"destination": destination})
    triggerer.api.wait("text_to_speech", run_id)
    deadline = time.monotonic() + 120
    while not (runs := triggerer.api.runs("text_to_speech_published")):
        assert time.monotonic() < deadline, "the second DAG was not started"
        time.sleep(0.5)
    (published,) = (run["dag_run_id"] for run in runs)
    triggerer.api.wait("text_to_speech_published", published)
    assert triggerer.api.xcom("text_to_speech_published", published, "publish") == [destination]
    size = (tmp_path / "clip.wav").stat().st_size
    assert f"{destination} has {size} bytes" in triggerer.api.log("text_to_speech_published", published, "publish")


def test_partition_key_starts_the_run_of_its_partition(triggerer, tmp_path):
    conf = {"destination": f"file://{tmp_path}/clip.wav", "day": "2026-11-28"}
    triggerer.api.wait("partitioned_clip", triggerer.api.trigger("partitioned_clip", conf))
    deadline = time.monotonic() + 120
    while not (runs := triggerer.api.runs("partitioned_day")):
        assert time.monotonic() < deadline, "the second DAG was not started"
        time.sleep(0.5)
    (day,) = (run["dag_run_id"] for run in runs)
    triggerer.api.wait("partitioned_day", day)
    result = triggerer.api.xcom("partitioned_day", day, "publish")
    assert result["day"] == result["extra"]["partition_key"] == "2026-11-28"
    assert result["extra"]["uri"] == conf["destination"]
    # Airflow queues both in one transaction.
    assert triggerer.api.client.get("/dags/partitioned_never").is_success
    assert triggerer.api.runs("partitioned_never") == []
