from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.links import text_to_speech as links
from airflow_provider_mps.links.text_to_speech import (
    AudioSourceLink,
    QueryPageLink,
    StoredObjectLink,
    SubmitPageLink,
    console_page,
    listen_page,
)
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator, TextToSpeechToObjectStorageOperator
from airflow_provider_mps.provider_info import get_provider_info
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor

LOG_URL = "http://airflow/base/dags/d/runs/r/tasks/store/mapped/3?try_number=2"


@pytest.fixture
def xcoms(monkeypatch):
    """What the task has pushed, by key."""
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
def test_each_task_has_its_buttons(operator, names):
    assert [link.name for link in operator.operator_extra_links] == names


def test_every_link_is_registered():
    used = {
        type(link)
        for operator in (TextToSpeechOperator, TextToSpeechTaskSensor, TextToSpeechToObjectStorageOperator)
        for link in operator.operator_extra_links
    }
    assert {f"{link.__module__}.{link.__qualname__}" for link in used} == set(get_provider_info()["extra-links"])


def test_the_apis_pages_are_those_of_the_calls():
    assert SubmitPageLink().get_link(None, ti_key=None).endswith("/1041/79693")
    assert QueryPageLink().get_link(None, ti_key=None).endswith("/1041/79696")


def test_the_audio_at_its_source_is_the_link_that_the_sensor_returned(xcoms):
    xcoms["return_value"] = {"AudioUrl": "https://cos/clip.wav?sign=1"}
    assert AudioSourceLink().get_link(None, ti_key=None) == "https://cos/clip.wav?sign=1"


@pytest.mark.parametrize("returned", [None, {}, {"AudioUrl": None}, "text"])
def test_without_such_a_link_there_is_no_button(xcoms, returned):
    xcoms["return_value"] = returned
    assert AudioSourceLink().get_link(None, ti_key=None) == ""


def link_of(path):
    return StoredObjectLink().get_link(SimpleNamespace(stored_at=path), ti_key=SimpleNamespace(log_url=LOG_URL))


def test_a_stored_object_without_a_console_leads_to_the_listen_view(tmp_path):
    link = link_of(ObjectStoragePath(f"file://{tmp_path}/clip.wav"))
    assert link == "http://airflow/base/dags/d/runs/r/tasks/store/mapped/3/plugin/listen"


def test_without_the_player_such_an_object_has_no_button(tmp_path, monkeypatch):
    monkeypatch.setattr(links, "listen_is_available", lambda: False)
    assert link_of(ObjectStoragePath(f"file://{tmp_path}/clip.wav")) == ""


def test_where_nothing_was_stored_there_is_no_button():
    assert link_of(None) == ""


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
def test_a_stored_object_leads_to_its_clouds_console_where_it_has_one(protocol, fs, page):
    assert console_page(SimpleNamespace(protocol=protocol, path="bucket/a/b c.wav", fs=fs)) == page


def test_the_listen_view_is_beside_the_log():
    assert listen_page("http://a/dags/d/runs/r/tasks/t?try_number=1") == "http://a/dags/d/runs/r/tasks/t/plugin/listen"
