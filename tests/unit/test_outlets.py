import pytest
from airflow.providers.common.compat.sdk import Asset, AssetAlias
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_mps.errors import DestinationError
from airflow_provider_mps.outlets import add_asset_events, require_assets

URI = "s3://clips/a.wav"


def events_of(*outlets):
    events = OutletEventAccessors()
    add_asset_events({"outlet_events": events}, outlets, URI, {"size": 5})
    return events


def test_an_alias_gets_an_event_of_the_asset_that_was_stored():
    alias = AssetAlias("clips")
    (event,) = events_of(alias)[alias].asset_alias_events
    assert event.dest_asset_key.uri == URI
    assert event.extra == {"uri": URI, "size": 5}


def test_clips_whose_names_hold_signs_of_uris_are_different_assets():
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
def test_asset_of_an_alias_is_percent_encoded_and_its_extra_has_the_path(uri, encoded, monkeypatch):
    # As Airflow checks it where its database is MySQL.
    monkeypatch.setattr("airflow.sdk.definitions.asset.SQL_ALCHEMY_CONN", "mysql://airflow")
    alias, events = AssetAlias("clips"), OutletEventAccessors()
    require_assets([alias], uri, "task 1")
    add_asset_events({"outlet_events": events}, [alias], uri, {"size": 5})
    (event,) = events[alias].asset_alias_events
    assert event.dest_asset_key.uri == encoded
    assert event.extra == {"uri": uri, "size": 5}


def test_an_asset_of_a_fixed_uri_is_told_where_the_audio_is():
    asset = Asset("mps://clips")
    assert events_of(asset)[asset].extra == {"uri": URI, "size": 5}


def test_a_uri_that_no_asset_can_have_is_refused_where_an_alias_asks_for_one():
    with pytest.raises(DestinationError, match=r"task 1 was not stored.*1500 characters.*leave the alias out"):
        require_assets([AssetAlias("clips")], f"s3://clips/{'a' * 1500}", "task 1")


def test_any_destination_is_good_for_other_outlets():
    require_assets([Asset("mps://clips"), "a file"], f"s3://clips/{'a' * 1500}", "task 1")
    require_assets([AssetAlias("clips")], URI, "task 1")


def test_any_other_outlet_is_left_alone():
    assert len(events_of("a file", 5)) == 0
