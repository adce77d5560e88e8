"""A batch that counts, and does nothing."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from tests.batching import batch, context, failing, line, run_batch
from tests.scripted_server import RESET, ScriptedServer


def test_a_dry_run_tells_lines_characters_and_errors_and_calls_nobody(connect, manifest, clips):
    lines = [*(line(number) for number in range(40)), line(1), line(50, sample_rate=1)]
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        running = context()
        told = batch(manifest(lines), clips.destination, dry_run=True).execute(running)
        assert server.requests == []
    assert told == {
        "dry_run": True,
        "lines": 42,
        "to_submit": 40,
        "characters": sum(len(line(number)["text"]) for number in range(40)),
        "least_seconds": 2.0,
        "invalid": 2,
        "errors": {"41": told["errors"]["41"], "42": told["errors"]["42"]},
    }
    assert "is the one of line 2 already" in told["errors"]["41"]
    assert "sample_rate" in told["errors"]["42"]
    assert "| 42 | clip-0050 | invalid |" in running["ti"].xcoms["progress"]
    assert not clips.root.exists()


def test_a_dry_run_knows_what_is_stored_already(app, manifest, clips):
    run_batch(manifest([line(0), line(1)]), clips.destination)
    told = run_batch(manifest([line(0), line(1), line(2)]), clips.destination, dry_run=True)
    assert (told["lines"], told["to_submit"]) == (3, 1)
    told = run_batch(manifest([line(0), line(1), line(2)]), clips.destination, "run-2", dry_run=True, resume=False)
    assert told["to_submit"] == 3


def test_a_dry_run_counts_what_a_run_would_submit_again_and_not_what_a_killed_one_has_paid(app, manifest, clips):
    lines = manifest([failing(3), failing(13), line(1)])
    with pytest.raises(AirflowFailException):
        run_batch(lines, clips.destination)
    assert run_batch(lines, clips.destination, "run-2", dry_run=True)["to_submit"] == 2
    # As a killed run leaves it: the journal has what the results have not.
    (state := clips.root / ".mps-batch" / "journal").mkdir(parents=True, exist_ok=True)
    (clips.root / "results.jsonl").rename(state / "000000000900-killed.jsonl")
    (clips.root / "summary.json").unlink()
    assert run_batch(lines, clips.destination, "run-2", dry_run=True)["to_submit"] == 0
