import pytest
from airflow.providers.common.compat.sdk import Asset, AssetAlias
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_mps.exceptions import DestinationError
from airflow_provider_mps.storage.asset_events import add_asset_events, validate_asset_outlets

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
