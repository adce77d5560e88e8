from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.get_provider_info import get_provider_info
from airflow_provider_mps.links import text_to_speech as links
from airflow_provider_mps.links.text_to_speech import (
    AudioSourceLink,
    QueryPageLink,
    StoredObjectLink,
    SubmitPageLink,
    get_console_url,
    get_listen_url,
)
from airflow_provider_mps.operators.text_to_speech import (
    TextToSpeechOperator,
    TextToSpeechSynthesizeOperator,
    TextToSpeechToObjectStorageOperator,
)
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor

LOG_URL = "http://airflow/base/dags/d/runs/r/tasks/store/mapped/3?try_number=2"


@pytest.fixture
def xcoms(monkeypatch):
    """Return the XComs that the task has pushed, by key."""
    pushed = {}
    monkeypatch.setattr(links, "XCom", SimpleNamespace(get_value=lambda *, ti_key, key: pushed.get(key)))
    return pushed


@pytest.mark.parametrize(
    ("operator", "names"),
    [
        (TextToSpeechOperator, ["API: TextToSpeechAsync"]),
        (TextToSpeechTaskSensor, ["Audio at MPS (expires)", "API: DescribeTextToSpeechAsyncTask"]),
        (TextToSpeechToObjectStorageOperator, ["Stored object", "API: DescribeTextToSpeechAsyncTask"]),
    ],
)
def test_operators_have_their_extra_links(operator, names):
    assert [link.name for link in operator.operator_extra_links] == names


def test_extra_links_are_all_registered():
    used = {
        type(link)
        for operator in (
            TextToSpeechOperator,
            TextToSpeechSynthesizeOperator,
            TextToSpeechTaskSensor,
            TextToSpeechToObjectStorageOperator,
        )
        for link in operator.operator_extra_links
    }
    assert {f"{link.__module__}.{link.__qualname__}" for link in used} == set(get_provider_info()["extra-links"])


def test_api_links_lead_to_pages_of_their_calls():
    assert SubmitPageLink().get_link(None, ti_key=None).endswith("/1041/79693")
    assert QueryPageLink().get_link(None, ti_key=None).endswith("/1041/79696")


def test_audio_source_link_is_audio_url_of_xcom(xcoms):
    xcoms["return_value"] = {"AudioUrl": "https://cos/clip.wav?sign=1"}
    assert AudioSourceLink().get_link(None, ti_key=None) == "https://cos/clip.wav?sign=1"


@pytest.mark.parametrize("returned", [None, {}, {"AudioUrl": None}, "text"])
def test_audio_source_link_without_audio_url_is_empty(xcoms, returned):
    xcoms["return_value"] = returned
    assert AudioSourceLink().get_link(None, ti_key=None) == ""


def get_stored_object_link(path):
    return StoredObjectLink().get_link(SimpleNamespace(stored_at=path), ti_key=SimpleNamespace(log_url=LOG_URL))


def test_stored_object_link_without_console_is_listen_view(tmp_path):
    link = get_stored_object_link(ObjectStoragePath(f"file://{tmp_path}/clip.wav"))
    assert link == "http://airflow/base/dags/d/runs/r/tasks/store/mapped/3/plugin/listen"


def test_stored_object_link_without_player_is_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(links, "listen_is_available", lambda: False)
    assert get_stored_object_link(ObjectStoragePath(f"file://{tmp_path}/clip.wav")) == ""


def test_stored_object_link_without_object_is_empty():
    assert get_stored_object_link(None) == ""


@pytest.mark.parametrize(
    ("protocol", "fs", "page"),
    [
        (
            "s3",
            SimpleNamespace(endpoint_url=None),
            "https://console.aws.amazon.com/s3/object/bucket?prefix=a%2Fb%20c.wav",
        ),
        ("s3", SimpleNamespace(endpoint_url="http://127.0.0.1:9000"), None),
        ("s3", SimpleNamespace(client_kwargs={"endpoint_url": "http://minio"}), None),
        ("gs", None, "https://console.cloud.google.com/storage/browser/_details/bucket/a/b%20c.wav"),
        ("file", None, None),
        ("cos", None, None),
    ],
)
def test_get_console_url_is_that_of_cloud(protocol, fs, page):
    assert get_console_url(SimpleNamespace(protocol=protocol, path="bucket/a/b c.wav", fs=fs)) == page


def test_get_listen_url_replaces_log_page():
    assert (
        get_listen_url("http://a/dags/d/runs/r/tasks/t?try_number=1") == "http://a/dags/d/runs/r/tasks/t/plugin/listen"
    )
