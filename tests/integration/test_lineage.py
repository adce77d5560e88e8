"""OpenLineage's own listener reports what batches, tracks and short texts have read and stored."""

import json
import os
import subprocess
import sys

import pytest

from tests.batching import write_manifest

pytestmark = pytest.mark.slow

LINES = [{"id": "a", "text": "Hello.", "voice_id": "v"}, {"id": "b", "text": "[fail] Bad.", "voice_id": "v"}]


@pytest.fixture
def events(airflow_database, start_emulator, tmp_path):
    """Run the DAG with OpenLineage; return its last event of each task, by the task's name."""
    start_emulator(synthesis_time=0.5)
    write_manifest(tmp_path / "manifest.jsonl", LINES)
    log = tmp_path / "lineage.json"
    transport = {"TYPE": "file", "LOG_FILE_PATH": str(log), "APPEND": "true"}
    environment = {
        **os.environ,
        **{f"OPENLINEAGE__TRANSPORT__{name}": value for name, value in transport.items()},
        "FOLDER": str(tmp_path),
    }
    code = "import lineage, os; lineage.lineage.test(run_conf={'folder': os.environ['FOLDER']})"
    folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
    environment["PYTHONPATH"] = os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])
    process = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert process.returncode == 0, process.stderr
    found = {}
    for line in log.read_text().splitlines():
        event = json.loads(line)
        found[event["job"]["name"].removeprefix("lineage.")] = event
    assert set(found) >= {"batch", "batch_deferred", "batch_failed", "track", "synthesized"}, process.stderr
    return found


def summarize(event, folder):
    """Return the datasets and the counts of an event, with paths relative to the folder."""

    def read(datasets, kind):
        return {
            dataset["name"].removeprefix(f"{folder}/"): {
                name: value
                for name, value in dataset.get(f"{kind}Facets", {}).get(f"{kind}Statistics", {}).items()
                if not name.startswith("_")
            }
            for dataset in datasets
        }

    counts = event["run"]["facets"]["mps_counts"]
    assert counts["_schemaURL"].endswith("RunFacet")
    counts = {name: value for name, value in counts.items() if not name.startswith("_")}
    return event["eventType"], read(event["inputs"], "input"), read(event["outputs"], "output"), counts


def test_lineage_has_inputs_outputs_and_counts(events, tmp_path):
    for task_id, folder, end in (
        ("batch", "clips", "COMPLETE"),
        ("batch_deferred", "deferred", "COMPLETE"),
        ("batch_failed", "failed", "FAIL"),
    ):
        clip = tmp_path / folder / "a.wav"
        summary = json.loads((tmp_path / folder / "summary.json").read_text())
        assert summarize(events[task_id], tmp_path) == (
            end,
            {"manifest.jsonl": {"rowCount": 2, "fileCount": 1}},
            {
                f"{folder}/results.jsonl": {"rowCount": 2, "fileCount": 1},
                folder: {"size": clip.stat().st_size, "fileCount": 1},
            },
            {"clips": 1, "lines": 2, "failed": 1, "characters": 17, "seconds": summary["seconds"]},
        )
    track, short = tmp_path / "track.wav", tmp_path / "short.wav"
    assert summarize(events["track"], tmp_path) == (
        "COMPLETE",
        {"deferred/results.jsonl": {"rowCount": 2, "fileCount": 1}},
        {"track.wav": {"size": track.stat().st_size, "fileCount": 1}},
        {"clips": 1, "lines": 2, "failed": 1, "seconds": summary["seconds"]},
    )
    end, inputs, outputs, counts = summarize(events["synthesized"], tmp_path)
    assert (end, len(inputs)) == ("COMPLETE", 1)
    assert outputs == {"short.wav": {"size": short.stat().st_size, "fileCount": 1}}
    assert counts["clips"] == 1
    assert counts["seconds"] > 0
    assert "sign=" not in json.dumps(events)
