import json

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow.sdk.lineage import HookLineageCollector

from airflow_provider_mps.lineage import Move

LINK = "https://user:SECRETKEY@bucket.cos.example/async_dubbing/clip.wav?sign=SECRETSIGN"


@pytest.mark.parametrize(
    ("path", "namespace", "name"),
    [
        ("file:///data/clip.wav", "file", "/data/clip.wav"),
        ("s3://clips/day/clip.wav", "s3://clips", "day/clip.wav"),
    ],
)
def test_source_and_destination_are_named_as_openlineage_wants_them(path, namespace, name):
    lineage = Move.of(LINK, ObjectStoragePath(path), 5).to_openlineage()
    (source,), (destination,) = lineage.inputs, lineage.outputs
    assert (source.namespace, source.name) == ("https://bucket.cos.example", "/async_dubbing/clip.wav")
    assert (destination.namespace, destination.name) == (namespace, name)
    assert destination.outputFacets["outputStatistics"].size == 5


def test_nothing_of_a_link_that_is_secret_is_kept():
    move = Move.of(LINK, ObjectStoragePath("file:///data/clip.wav"), 5)
    assert "SECRET" not in json.dumps(vars(move), default=str) + str(move.to_openlineage())


class Collector:
    def __init__(self):
        self.told = {}

    def add_input_asset(self, *, context, uri):
        self.told["input"] = uri

    def add_output_asset(self, *, context, uri):
        self.told["output"] = uri


def test_uris_for_lineage_are_percent_encoded_once(monkeypatch):
    collector = Collector()
    monkeypatch.setattr("airflow_provider_mps.lineage.get_hook_lineage_collector", lambda: collector)
    link = "https://bucket.cos.example/%E8%AF%AD/音 1.wav?sign=SECRETSIGN"
    Move.of(link, ObjectStoragePath("s3://clips/语 1%20#.wav"), 5).collect(hook=None)
    assert collector.told == {
        "input": "https://bucket.cos.example/%E8%AF%AD/%E9%9F%B3%201.wav",
        "output": "s3://clips/%E8%AF%AD%201%2520%23.wav",
    }


def test_lineage_of_a_uri_that_no_asset_can_have_is_left_out(monkeypatch):
    collector = HookLineageCollector()
    monkeypatch.setattr("airflow_provider_mps.lineage.get_hook_lineage_collector", lambda: collector)
    Move.of(LINK, ObjectStoragePath(f"s3://clips/{'语' * 500}.wav"), 5).collect(hook=None)
    assert [asset.asset.uri for asset in collector.collected_assets.inputs] == [
        "https://bucket.cos.example/async_dubbing/clip.wav"
    ]
    assert collector.collected_assets.outputs == []


def test_airflows_own_collector_is_told_too(monkeypatch):
    collector = Collector()
    monkeypatch.setattr("airflow_provider_mps.lineage.get_hook_lineage_collector", lambda: collector)
    Move.of(LINK, ObjectStoragePath("s3://clips/clip.wav"), 5).collect(hook=None)
    assert collector.told == {
        "input": "https://bucket.cos.example/async_dubbing/clip.wav",
        "output": "s3://clips/clip.wav",
    }
