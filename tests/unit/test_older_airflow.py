import io
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.older_airflow import let_paths_know_cos, lines_of, uri_of


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
