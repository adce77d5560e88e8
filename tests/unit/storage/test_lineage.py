import json

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow.sdk.lineage import HookLineageCollector

from airflow_provider_mps.batch.row import LineStatus
from airflow_provider_mps.batch.summary import Summary
from airflow_provider_mps.storage.lineage import FileLineage, FileSet, SpeechCounts, TransferLineage

SIGNED_URL = "https://user:SECRETKEY@bucket.cos.example/async_dubbing/clip.wav?sign=SECRETSIGN"


@pytest.mark.parametrize(
    ("path", "namespace", "name"),
    [
        ("file:///data/clip.wav", "file", "/data/clip.wav"),
        ("s3://clips/day/clip.wav", "s3://clips", "day/clip.wav"),
    ],
)
def test_openlineage_dataset_names_follow_its_spec(path, namespace, name):
    lineage = TransferLineage.from_audio_url(SIGNED_URL, ObjectStoragePath(path), 5).to_openlineage()
    (source,), (destination,) = lineage.inputs, lineage.outputs
    assert (source.namespace, source.name) == ("https://bucket.cos.example", "/async_dubbing/clip.wav")
    assert (destination.namespace, destination.name) == (namespace, name)
    assert destination.outputFacets["outputStatistics"].size == 5


def test_lineage_drops_secrets_of_signed_url():
    lineage = TransferLineage.from_audio_url(SIGNED_URL, ObjectStoragePath("file:///data/clip.wav"), 5)
    assert "SECRET" not in json.dumps(vars(lineage), default=str) + str(lineage.to_openlineage())


class Collector:
    def __init__(self):
        self.uris = {}

    def add_input_asset(self, *, context, uri):
        self.uris["input"] = uri

    def add_output_asset(self, *, context, uri):
        self.uris["output"] = uri


def test_lineage_uris_are_percent_encoded_once(monkeypatch):
    collector = Collector()
    monkeypatch.setattr("airflow_provider_mps.storage.lineage.get_hook_lineage_collector", lambda: collector)
    url = "https://bucket.cos.example/%E8%AF%AD/音 1.wav?sign=SECRETSIGN"
    TransferLineage.from_audio_url(url, ObjectStoragePath("s3://clips/语 1%20#.wav"), 5).collect(hook=None)
    assert collector.uris == {
        "input": "https://bucket.cos.example/%E8%AF%AD/%E9%9F%B3%201.wav",
        "output": "s3://clips/%E8%AF%AD%201%2520%23.wav",
    }


def test_lineage_omits_uri_that_is_no_valid_asset(monkeypatch):
    collector = HookLineageCollector()
    monkeypatch.setattr("airflow_provider_mps.storage.lineage.get_hook_lineage_collector", lambda: collector)
    TransferLineage.from_audio_url(SIGNED_URL, ObjectStoragePath(f"s3://clips/{'语' * 500}.wav"), 5).collect(hook=None)
    assert [asset.asset.uri for asset in collector.collected_assets.inputs] == [
        "https://bucket.cos.example/async_dubbing/clip.wav"
    ]
    assert collector.collected_assets.outputs == []


def test_lineage_has_outputs_of_a_source_that_is_no_valid_asset(monkeypatch):
    collector = HookLineageCollector()
    monkeypatch.setattr("airflow_provider_mps.storage.lineage.get_hook_lineage_collector", lambda: collector)
    url = f"https://bucket.cos.example/{'语' * 500}.wav"
    TransferLineage.from_audio_url(url, ObjectStoragePath("s3://clips/clip.wav"), 5).collect(hook=None)
    assert collector.collected_assets.inputs == []
    assert [asset.asset.uri for asset in collector.collected_assets.outputs] == ["s3://clips/clip.wav"]


def test_lineage_is_added_to_airflow_collector(monkeypatch):
    collector = Collector()
    monkeypatch.setattr("airflow_provider_mps.storage.lineage.get_hook_lineage_collector", lambda: collector)
    TransferLineage.from_audio_url(SIGNED_URL, ObjectStoragePath("s3://clips/clip.wav"), 5).collect(hook=None)
    assert collector.uris == {
        "input": "https://bucket.cos.example/async_dubbing/clip.wav",
        "output": "s3://clips/clip.wav",
    }


def test_lineage_collector_that_fails_is_only_logged(monkeypatch, caplog):
    def fail():
        raise RuntimeError("a broken plugin, password=SECRETKEY")

    monkeypatch.setattr("airflow_provider_mps.storage.lineage.get_hook_lineage_collector", fail)
    TransferLineage.from_audio_url(SIGNED_URL, ObjectStoragePath("s3://clips/clip.wav"), 5).collect(hook=None)
    assert "lineage collector failed" in caplog.text
    assert "SECRET" not in caplog.text


def test_lineage_of_spoken_file_has_it_as_an_input():
    text = ObjectStoragePath("s3://texts/day.txt")
    lineage = TransferLineage.from_audio_url(SIGNED_URL, ObjectStoragePath("s3://clips/a.wav"), 5, 1.5, text)
    inputs = lineage.to_openlineage().inputs
    assert [(each.namespace, each.name) for each in inputs][1:] == [("s3://texts", "day.txt")]


def test_lineage_of_files_has_statistics_and_counts():
    lineage = FileLineage(
        FileSet(ObjectStoragePath("s3://clips/day/manifest.jsonl"), rows=3),
        [FileSet(ObjectStoragePath("s3://clips"), 500, files=2), FileSet(ObjectStoragePath("file:///a/b.wav"), 7)],
        SpeechCounts(clips=2, lines=3, failed=1, characters=30, seconds=1.5),
    ).to_openlineage()
    (source,) = lineage.inputs
    statistics = source.inputFacets["inputStatistics"]
    assert (source.namespace, source.name, statistics.rowCount) == ("s3://clips", "day/manifest.jsonl", 3)
    assert [(each.namespace, each.name) for each in lineage.outputs] == [("s3://clips", "/"), ("file", "/a/b.wav")]
    sizes = [each.outputFacets["outputStatistics"] for each in lineage.outputs]
    assert [(each.size, each.fileCount) for each in sizes] == [(500, 2), (7, 1)]
    counts = lineage.run_facets["mps_counts"]
    assert (counts.clips, counts.lines, counts.failed, counts.characters, counts.seconds) == (2, 3, 1, 30, 1.5)


def test_batch_reports_manifest_results_and_folder(monkeypatch):
    collector = HookLineageCollector()
    monkeypatch.setattr("airflow_provider_mps.storage.lineage.get_hook_lineage_collector", lambda: collector)
    counts = {LineStatus.STORED: 2, LineStatus.REJECTED: 1, LineStatus.PENDING: 1}
    folder = ObjectStoragePath("s3://clips/day")
    lineage = Summary(counts, characters=30, size=500, seconds=1.2345).make_lineage(folder / "m 1.jsonl", folder)
    lineage.collect(object())
    found = collector.collected_assets
    assert [[each.asset.uri for each in kind] for kind in (found.inputs, found.outputs)] == [
        ["s3://clips/day/m%201.jsonl"],
        ["s3://clips/day/results.jsonl", "s3://clips/day"],
    ]
    assert lineage.source.rows == 4
    assert [(each.files, each.size, each.rows) for each in lineage.outputs] == [(1, None, 4), (2, 500, None)]
    assert lineage.counts == SpeechCounts(clips=2, lines=4, failed=1, characters=30, seconds=1.234)
