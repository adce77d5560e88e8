"""Run the DAGs of docs/batches.md, and hold its tables and docs/batch-recovery.md to the code."""

from __future__ import annotations

import inspect
import json
import os
import re
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.batch import deferred_lease, group_commit, lease, run, storer, submitter
from airflow_provider_mps.batch.lock_holder import DEFERRED_LOCK_SECONDS
from airflow_provider_mps.batch.results import Results
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.batch import OnLineFailure, TextToSpeechBatchOperator
from airflow_provider_mps.polling import request_gate
from airflow_provider_mps.speech.parsing import OnUnknown
from tests.batching import accepted, line, run_batch, submits, write_manifest
from tests.docs.pages import DOCS, read_blocks, read_section, read_tables

PAGE = DOCS / "batches.md"
RECOVERY = DOCS / "batch-recovery.md"
BLOCKS = read_blocks(PAGE, "python")


def edit_row(clips, line_id="clip-0000", **changes):
    rows = [{**row, **(changes if row["id"] == line_id else {})} for row in clips.rows()]
    (clips.root / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.slow
@pytest.mark.parametrize("dag_id", ["audio_book", "many_clips"])
def test_docs_batches_dag_stores_every_clip(run_dag, start_emulator, tmp_path, dag_id):
    start_emulator()
    (code,) = [block for block in BLOCKS if f'"{dag_id}"' in block]
    (manifest,) = read_blocks(PAGE, "jsonl")
    (tmp_path / "manifest.jsonl").write_text(manifest)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/2.txt").write_text("Two.")
    Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"], f"{dag_id}.py").write_text(code)
    finished = run_dag(dag_id, dag_id, folder=f"file://{tmp_path}/")
    assert finished.state == "success"
    assert len(list(tmp_path.rglob("*.wav"))) == 2


def test_docs_batches_report_lists_missing_lines(app, tmp_path, clips):
    manifest = write_manifest(tmp_path / "m.jsonl", [line(0), line(1, pitch=99)])
    outcome = run_batch(manifest, clips.destination, on_line_failure="continue")
    (code,) = [block for block in BLOCKS if "list_missing_lines" in block]
    names: dict[str, object] = {}
    exec(code, names)
    assert names["list_missing_lines"].function(outcome) == [
        "line 2: pitch must be a whole number from -12 to 12, not 99. Nothing was submitted."
    ]


def test_line_set_to_pending_is_submitted_again(app, tmp_path, clips):
    manifest = write_manifest(tmp_path / "m.jsonl", [line(0), line(1)])
    run_batch(manifest, clips.destination)
    edit_row(clips, status="pending")
    run_batch(manifest, clips.destination, "run-2")
    assert accepted(app.app) == {line(0)["text"]: 2, line(1)["text"]: 1}


def test_line_set_to_store_failed_is_stored_without_submit(app, tmp_path, clips):
    manifest = write_manifest(tmp_path / "m.jsonl", [line(0)])
    run_batch(manifest, clips.destination)
    (clips.root / "clip-0000.wav").unlink()
    edit_row(clips, status="store_failed")
    run_batch(manifest, clips.destination, "run-2")
    clips.require_true()
    assert submits(app) == 1


def test_unknown_line_with_a_found_task_is_stored(app, tmp_path, clips):
    manifest = write_manifest(tmp_path / "m.jsonl", [line(0)])
    app.faults.append((502, b"bad gateway"))
    run_batch(manifest, clips.destination, on_line_failure="continue")
    assert clips.row("clip-0000")["status"] == "unknown"
    task_id = MpsHook().submit_text_to_speech(line(0)["text"], "voice-1")
    edit_row(clips, status="processing", TaskId=task_id)
    run_batch(manifest, clips.destination, "run-2")
    clips.require_true()
    assert clips.row("clip-0000")["TaskId"] == task_id
    assert submits(app) == 2


def test_results_without_a_row_submit_nothing(app, tmp_path, clips):
    manifest = write_manifest(tmp_path / "m.jsonl", [line(0), line(1)])
    run_batch(manifest, clips.destination)
    (clips.root / "results.jsonl").write_text(json.dumps(clips.row("clip-0000")) + "\n")
    with pytest.raises(Exception, match=r"results\.jsonl has 1 of at least 2 lines"):
        run_batch(manifest, clips.destination, "run-2")
    assert submits(app) == 2


def test_time_limit_table_has_the_defaults_of_the_operator():
    parameters = inspect.signature(TextToSpeechBatchOperator.__init__).parameters
    defaults = {row["Argument"]: row["Default"] for row in next(read_tables(read_section(PAGE, "Set time limits")))}
    assert defaults["`transfer_timeout`"] == f"{parameters['transfer_timeout'].default:g} s"
    assert f"one MPS task: {parameters['poll_interval'].default:g} seconds by default" in PAGE.read_text()
    assert storer.MAX_CONCURRENT_TRANSFERS == 8
    assert "stores eight lines at a time" in " ".join(PAGE.read_text().split())


def test_on_line_failure_table_has_every_value():
    table = next(read_tables(read_section(PAGE, "Read the results")))
    assert [re.search(r'"(\w+)"', row["Value"])[1] for row in table] == list(OnLineFailure)


def test_on_unknown_table_has_every_value():
    table = next(read_tables(read_section(RECOVERY, "What a kill leaves behind")))
    assert [re.search(r'"(\w+)"', row["`on_unknown`"])[1] for row in table] == list(OnUnknown)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("at most {} submits are in flight", submitter.IN_FLIGHT),
        ("rewrites the lock every {} seconds", lease.HEARTBEAT_INTERVAL_SECONDS),
        ("submits only within {} seconds", lease.LEASE_VALIDITY_SECONDS),
        ("After {} seconds without a heartbeat", lease.LEASE_EXPIRY_SECONDS),
        ("Read, write, wait {} seconds, read again", lease.SETTLE_DELAY_SECONDS),
        ("the new one takes longer than {} seconds", lease.SETTLE_DELAY_SECONDS),
        ("extends it every {} seconds", deferred_lease.RENEWAL_INTERVAL_SECONDS),
        ("The lock expires {} minutes after", DEFERRED_LOCK_SECONDS / 60),
        ("waits up to {} seconds for the responses", run.SHUTDOWN_GRACE_SECONDS),
        ("After {} minutes it fails", request_gate.OUTAGE_TIMEOUT_SECONDS / 60),
        ("retries writes of its state for up to {} seconds", group_commit.OUTAGE_TIMEOUT_SECONDS),
        ("rewritten every {} seconds or less often", run.REPORT_INTERVAL_SECONDS),
        ("{} lines in a row cannot be stored", storer.MAX_CONSECUTIVE_FAILURES),
    ],
)
def test_recovery_page_states_the_numbers_of_the_code(words, value):
    text = " ".join(RECOVERY.read_text().split())
    assert words.format(f"{value:g}") in text


def test_recovery_page_names_the_files_of_a_batch():
    results = Results(ObjectStoragePath("file:///clips"))
    text = RECOVERY.read_text()
    for path in (results.rows_path, results.summary_path, results.lock_path, results.write_ahead_log_path):
        assert f"`{path.path.removeprefix('/clips/')}" in text


def test_recovery_page_states_the_number_of_resubmits():
    assert submitter.MAX_SUBMITS == 3
    assert "submits it at most three times in all" in " ".join(RECOVERY.read_text().split())
