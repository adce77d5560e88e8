import importlib
import logging
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import Asset, AssetAlias
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_mps.exceptions import DestinationError, InvalidRequestError
from airflow_provider_mps.storage.asset_events import add_asset_events, parse_partition_key, validate_asset_outlets
from tests.scripted_server import RESET, ScriptedServer

URI = "s3://clips/a.wav"


def make_events(*outlets):
    events = OutletEventAccessors()
    add_asset_events({"outlet_events": events}, outlets, URI, {"size": 5})
    return events


def test_asset_alias_gets_event_of_stored_asset():
    alias = AssetAlias("clips")
    (event,) = make_events(alias)[alias].asset_alias_events
    assert event.dest_asset_key.uri == URI
    assert event.extra == {"uri": URI, "size": 5}


def test_asset_names_with_uri_delimiters_stay_distinct():
    alias, events = AssetAlias("clips"), OutletEventAccessors()
    for name in ("a#b", "a?b", "a"):
        add_asset_events({"outlet_events": events}, [alias], f"s3://clips/{name}", {})
    assert len({event.dest_asset_key for event in events[alias].asset_alias_events}) == 3


@pytest.mark.parametrize(
    ("uri", "encoded"),
    [
        ("s3://clips/语音.wav", "s3://clips/%E8%AF%AD%E9%9F%B3.wav"),
        ("file:///data/a b.wav", "file:///data/a%20b.wav"),
        ("gs://clips/100%25#1?x=y.wav", "gs://clips/100%2525%231%3Fx=y.wav"),
        ("cos://clips-1250000000/é/[1]@2:3.wav", "cos://clips-1250000000/%C3%A9/%5B1%5D@2:3.wav"),
        ("s3://clips/a://é.wav", "s3://clips/a://%C3%A9.wav"),
        ("s3://clips/\ud800.wav", "s3://clips/%ED%A0%80.wav"),
    ],
)
def test_asset_alias_event_has_encoded_uri_and_plain_extra(uri, encoded, monkeypatch):
    # Airflow validates URIs more strictly if its database is MySQL.
    monkeypatch.setattr("airflow.sdk.definitions.asset.SQL_ALCHEMY_CONN", "mysql://airflow")
    alias, events = AssetAlias("clips"), OutletEventAccessors()
    validate_asset_outlets([alias], uri, "task 1")
    add_asset_events({"outlet_events": events}, [alias], uri, {"size": 5})
    (event,) = events[alias].asset_alias_events
    assert event.dest_asset_key.uri == encoded
    assert event.extra == {"uri": uri, "size": 5}


def test_asset_event_extra_has_audio_uri():
    asset = Asset("mps://clips")
    assert make_events(asset)[asset].extra == {"uri": URI, "size": 5}


def test_validate_asset_outlets_invalid_uri_with_alias_raises():
    with pytest.raises(DestinationError, match=r"task 1 was not stored.*1500 characters.*remove the alias"):
        validate_asset_outlets([AssetAlias("clips")], f"s3://clips/{'a' * 1500}", "task 1")


def test_validate_asset_outlets_without_alias_accepts_any_uri():
    validate_asset_outlets([Asset("mps://clips"), "a file"], f"s3://clips/{'a' * 1500}", "task 1")
    validate_asset_outlets([AssetAlias("clips")], URI, "task 1")


def test_other_outlets_get_no_event():
    assert len(make_events("a file", 5)) == 0


@pytest.mark.parametrize(
    ("value", "key"),
    [(None, None), ("", None), ("2026-11-28", "2026-11-28"), (20261128, "20261128"), ("語" * 250,) * 2],
)
def test_partition_key_is_parsed(value, key):
    assert parse_partition_key(value, [AssetAlias("clips"), Asset("mps://clips")]) == key


@pytest.mark.parametrize("value", [" ", "x" * 251, True, 1.5, ["2026-11-28"], "day\0", "\ud800"])
def test_invalid_partition_key_is_rejected(value):
    with pytest.raises(InvalidRequestError, match="partition_key must be a text of 1 to 250 characters"):
        parse_partition_key(value, [Asset("mps://clips")])


@pytest.mark.parametrize("outlets", [[], [AssetAlias("clips")], ["a file"]])
def test_partition_key_needs_an_asset(outlets):
    assert parse_partition_key("", outlets) is None
    with pytest.raises(InvalidRequestError, match="partition_key needs an Asset in outlets"):
        parse_partition_key("2026-11-28", outlets)


def test_partition_key_is_in_event_of_asset_and_in_every_extra():
    asset, alias, events = Asset("mps://clips"), AssetAlias("clips"), OutletEventAccessors()
    add_asset_events({"outlet_events": events}, [asset, alias], URI, {"size": 5}, "2026-11-28")
    extra = {"uri": URI, "size": 5, "partition_key": "2026-11-28"}
    assert (events[asset].extra, events[asset].partition_keys) == (extra, {"2026-11-28"})
    assert [event.extra for event in events[alias].asset_alias_events] == [extra]


def test_partition_key_without_support_of_airflow_warns(caplog):
    asset = Asset("mps://clips")
    event = SimpleNamespace(extra={})
    add_asset_events({"outlet_events": {asset: event}}, [asset], URI, {}, "2026-11-28", logging.getLogger("task"))
    assert event.extra == {"uri": URI, "partition_key": "2026-11-28"}
    assert "need 3.3 or later" in caplog.text


@pytest.mark.parametrize(
    ("module", "operator", "arguments"),
    [
        ("text_to_speech", "TextToSpeechToObjectStorageOperator", {"mps_task_id": "task-1"}),
        ("synthesize", "TextToSpeechSynthesizeOperator", {"text": "Hi.", "voice_id": "v"}),
        ("batch", "TextToSpeechBatchOperator", {"manifest": "file:///manifest.jsonl"}),
        ("track", "AssembleTrackOperator", {"results": "file:///results.jsonl"}),
    ],
)
def test_operators_check_partition_key_first(connect, tmp_path, module, operator, arguments):
    operator = getattr(importlib.import_module(f"airflow_provider_mps.operators.{module}"), operator)
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError, match="partition_key needs an Asset"):
            operator(
                task_id="task", destination=f"file://{tmp_path}/out.wav", partition_key="day", **arguments
            ).execute({})
        assert server.requests == []
    assert list(tmp_path.iterdir()) == []
