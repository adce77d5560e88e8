"""Manifests and texts that lie in a real S3 server."""

from __future__ import annotations

import json

import pytest

from airflow_provider_mps.errors import InvalidRequestError
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator
from tests.batching import accepted, context, run_batch


def refused_connection(s3, monkeypatch):
    """A connection with a wrong key, and an id of its own: Airflow keeps a filesystem per connection id."""
    monkeypatch.setenv(f"AIRFLOW_CONN_REFUSED_{s3.port}", s3.connection(secret="wrong"))
    return f"refused_{s3.port}"


def test_a_manifest_and_its_texts_may_lie_in_s3_where_a_missing_permission_is_told(app, s3, clips, monkeypatch):
    client = s3.client()
    client.put_object(Bucket="clips", Key="in/one.txt", Body=b"From a bucket.")
    body = json.dumps({"id": "one", "text_path": "one.txt", "voice_id": "v"})
    client.put_object(Bucket="clips", Key="in/m.jsonl", Body=body.encode())
    assert run_batch(f"{s3.root}in/m.jsonl", clips.destination)["stored"] == 1
    assert set(accepted(app.app)) == {"From a bucket."}

    refused = refused_connection(s3, monkeypatch)
    with pytest.raises(InvalidRequestError, match=rf"manifest s3://{refused}@clips/in/m.jsonl may not be read"):
        run_batch(f"s3://{refused}@clips/in/m.jsonl", clips.destination)


def test_the_single_operator_may_read_its_text_from_s3_too(app, s3, monkeypatch):
    s3.client().put_object(Bucket="clips", Key="chapter.txt", Body="Ein Kapitel für sich.".encode())
    operator = TextToSpeechOperator(task_id="submit", text_path=f"{s3.root}chapter.txt", voice_id="v")
    operator.execute(context())
    assert set(accepted(app.app)) == {"Ein Kapitel für sich."}
    refused = refused_connection(s3, monkeypatch)
    operator = TextToSpeechOperator(task_id="submit", text_path=f"s3://{refused}@clips/chapter.txt", voice_id="v")
    with pytest.raises(InvalidRequestError, match="may not be read"):
        operator.execute(context())
