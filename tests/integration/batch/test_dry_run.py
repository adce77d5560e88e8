"""Dry runs of batches, with and without earlier results."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from tests.batching import batch, context, failing, line, run_batch
from tests.scripted_server import RESET, ScriptedServer


def test_dry_run_reports_counts_and_errors_without_api_calls(connect, manifest, clips):
    lines = [*(line(number) for number in range(40)), line(1), line(50, sample_rate=1)]
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        airflow_context = context()
        report = batch(manifest(lines), clips.destination, dry_run=True).execute(airflow_context)
        assert server.requests == []
    assert report == {
        "dry_run": True,
        "lines": 42,
        "to_submit": 40,
        "characters": sum(len(line(number)["text"]) for number in range(40)),
        "least_seconds": 2.0,
        "invalid": 2,
        "lines_by_voice": {"voice-1": 40},
        "characters_by_voice": {"voice-1": sum(len(line(number)["text"]) for number in range(40))},
        "errors": {"41": report["errors"]["41"], "42": report["errors"]["42"]},
    }
    assert "is already used by line 2" in report["errors"]["41"]
    assert "sample_rate" in report["errors"]["42"]
    assert "| 42 | clip-0050 | invalid |" in airflow_context["ti"].xcoms["progress"]
    assert "| seconds to submit, at least | 2 |" in airflow_context["ti"].xcoms["progress"]
    assert not clips.root.exists()


def test_dry_run_counts_no_stored_lines(app, manifest, clips):
    run_batch(manifest([line(0), line(1)]), clips.destination)
    report = run_batch(manifest([line(0), line(1), line(2)]), clips.destination, dry_run=True)
    assert (report["lines"], report["to_submit"]) == (3, 1)
    report = run_batch(manifest([line(0), line(1), line(2)]), clips.destination, "run-2", dry_run=True, resume=False)
    assert report["to_submit"] == 3


def test_dry_run_counts_failed_and_not_recorded_lines(app, manifest, clips):
    lines = manifest([failing(3), failing(13), line(1)])
    with pytest.raises(AirflowFailException):
        run_batch(lines, clips.destination)
    assert run_batch(lines, clips.destination, "run-2", dry_run=True)["to_submit"] == 2
    # As after a kill: only the write-ahead log has the rows.
    (parts := clips.root / ".mps-batch" / "journal").mkdir(parents=True, exist_ok=True)
    (clips.root / "results.jsonl").rename(parts / "000000000900-killed.jsonl")
    (clips.root / "summary.json").unlink()
    assert run_batch(lines, clips.destination, "run-2", dry_run=True)["to_submit"] == 0
