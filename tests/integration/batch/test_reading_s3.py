"""Manifests and texts in a real S3 server."""

from __future__ import annotations

import json

import pytest

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator
from tests.batching import accepted, context, run_batch


def add_forbidden_connection(s3, monkeypatch):
    """Add a connection with a wrong key and a new id: Airflow caches one filesystem per connection id."""
    monkeypatch.setenv(f"AIRFLOW_CONN_FORBIDDEN_{s3.port}", s3.connection(secret="wrong"))
    return f"forbidden_{s3.port}"


def test_manifest_and_texts_in_s3_are_read_or_permission_reported(app, s3, clips, monkeypatch):
    client = s3.client()
    client.put_object(Bucket="clips", Key="in/one.txt", Body=b"From a bucket.")
    body = json.dumps({"id": "one", "text_path": "one.txt", "voice_id": "v"})
    client.put_object(Bucket="clips", Key="in/m.jsonl", Body=body.encode())
    assert run_batch(f"{s3.root}in/m.jsonl", clips.destination)["stored"] == 1
    assert set(accepted(app.app)) == {"From a bucket."}

    forbidden = add_forbidden_connection(s3, monkeypatch)
    with pytest.raises(
        InvalidRequestError, match=rf"no permission to read the manifest s3://{forbidden}@clips/in/m.jsonl"
    ):
        run_batch(f"s3://{forbidden}@clips/in/m.jsonl", clips.destination)


def test_text_path_in_s3_is_read_by_the_submit_operator(app, s3, monkeypatch):
    s3.client().put_object(Bucket="clips", Key="chapter.txt", Body="Ein Kapitel für sich.".encode())
    operator = TextToSpeechOperator(task_id="submit", text_path=f"{s3.root}chapter.txt", voice_id="v")
    operator.execute(context())
    assert set(accepted(app.app)) == {"Ein Kapitel für sich."}
    forbidden = add_forbidden_connection(s3, monkeypatch)
    operator = TextToSpeechOperator(task_id="submit", text_path=f"s3://{forbidden}@clips/chapter.txt", voice_id="v")
    with pytest.raises(InvalidRequestError, match=r"PermissionError.*worker's account has the permission to read it"):
        operator.execute(context())
