import io
from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps import version_compat
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator
from airflow_provider_mps.version_compat import iterate_lines, make_uri


@pytest.mark.parametrize(
    ("as_uri", "uri"),
    [
        ("s3://aws_default@bucket/a/b.wav", "s3://bucket/a/b.wav"),
        ("s3://bucket/a@b.wav", "s3://bucket/a@b.wav"),
        ("cos://mps_default@clips-1250000000", "cos://clips-1250000000"),
        ("file:///data/a@b.wav", "file:///data/a@b.wav"),
    ],
)
def test_make_uri_drops_connection_id(as_uri, uri):
    assert make_uri(SimpleNamespace(as_uri=lambda: as_uri)) == uri


def test_make_uri_equals_as_uri_of_current_airflow():
    path = ObjectStoragePath("s3://bucket/a/b.wav")
    assert make_uri(path) == path.as_uri()


def test_iterate_lines_reads_file_without_iter():
    file = io.BytesIO(b"one\ntwo\n\nlast")
    readable = SimpleNamespace(readline=file.readline)  # as the wrapper of Airflow 3.0
    assert list(iterate_lines(readable)) == [b"one\n", b"two\n", b"\n", b"last"]


@pytest.mark.parametrize(
    ("airflow", "next_method", "is_kept"),
    [("2.11.2", None, True), ("2.11.2", "execute_complete", False), ("3.3.2", "execute_complete", True)],
)
def test_execution_timeout_is_hidden_from_airflow_2_on_resume(monkeypatch, airflow, next_method, is_kept):
    """Airflow 2 would raise AirflowTaskTimeout, which it retries, once the attempt is older than execution_timeout."""
    monkeypatch.setattr(version_compat, "version", lambda _: airflow)
    limit = timedelta(seconds=2)
    task = TextToSpeechOperator(task_id="submit", text="hello", voice_id="v", execution_timeout=limit)
    task.pre_execute({"ti": SimpleNamespace(next_method=next_method)})
    assert task.execution_timeout == (limit if is_kept else None)
    assert task.time_limit == limit
