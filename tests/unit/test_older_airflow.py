import io
from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps import older_airflow
from airflow_provider_mps.older_airflow import let_paths_know_cos, lines_of, uri_of
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator


@pytest.mark.parametrize(
    ("told", "uri"),
    [
        ("s3://aws_default@bucket/a/b.wav", "s3://bucket/a/b.wav"),
        ("s3://bucket/a@b.wav", "s3://bucket/a@b.wav"),
        ("cos://mps_default@clips-1250000000", "cos://clips-1250000000"),
        ("file:///data/a@b.wav", "file:///data/a@b.wav"),
    ],
)
def test_a_uri_has_no_connection_in_it_whatever_the_path_tells(told, uri):
    assert uri_of(SimpleNamespace(as_uri=lambda: told)) == uri


def test_a_uri_of_this_airflow_stays_as_it_is():
    path = ObjectStoragePath("s3://bucket/a/b.wav")
    assert uri_of(path) == path.as_uri()


def test_lines_are_read_of_a_file_that_for_cannot_walk_through():
    file = io.BytesIO(b"one\ntwo\n\nlast")
    readable = SimpleNamespace(readline=file.readline)  # as older Airflows wrap it
    assert list(lines_of(readable)) == [b"one\n", b"two\n", b"\n", b"last"]


def test_a_newer_airflow_is_left_alone(monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.older_airflow.version", lambda _: "0.3.10")
    let_paths_know_cos()
    path = ObjectStoragePath("cos://mps_default@clips-1250000000/a/b.wav")
    assert path.path == "clips-1250000000/a/b.wav"


@pytest.mark.parametrize(
    ("airflow", "next_method", "left_to_airflow"),
    [("2.11.2", None, True), ("2.11.2", "execute_complete", False), ("3.3.2", "execute_complete", True)],
)
def test_airflow_2_does_not_end_a_resumed_task_before_it_runs(monkeypatch, airflow, next_method, left_to_airflow):
    """It raises AirflowTaskTimeout, which it retries, as soon as the attempt is older than execution_timeout."""
    monkeypatch.setattr(older_airflow, "version", lambda _: airflow)
    limit = timedelta(seconds=2)
    task = TextToSpeechOperator(task_id="submit", text="hello", voice_id="v", execution_timeout=limit)
    task.pre_execute({"ti": SimpleNamespace(next_method=next_method)})
    assert task.execution_timeout == (limit if left_to_airflow else None)
    assert task.time_limit == limit
