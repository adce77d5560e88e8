"""How a batch treats the results of earlier runs, retries and clears, and files that users edited."""

from __future__ import annotations

import errno
import json
import threading
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider_mps.batch.submitter import IN_FLIGHT
from airflow_provider_mps.batch.write_ahead_log import WriteAheadLog
from airflow_provider_mps.exceptions import DestinationError, DestinationLockedError
from airflow_provider_mps.storage.errors import translate_storage_errors
from tests.batching import LINES, accepted, batch, context, failing, line, run_batch, submits


def get_write_times(clips):
    return {path: path.stat().st_mtime_ns for path in Path(clips.root.path).glob("*.wav")}


def test_second_run_submits_and_stores_nothing_again(app, manifest, clips):
    lines = [line(number) for number in range(LINES)]
    run_batch(manifest(lines), clips.destination)
    before = get_write_times(clips)
    summary = run_batch(manifest(lines), clips.destination, run_id="run-2")
    assert summary["stored"] == LINES
    assert submits(app) == LINES
    assert get_write_times(clips) == before
    clips.require_true()


def test_changed_line_is_resubmitted_and_earlier_rows_are_kept(app, manifest, clips):
    run_batch(manifest([line(0), line(1), line(2)]), clips.destination)
    summary = run_batch(manifest([line(3), line(1, text="Another text 1."), line(0)]), clips.destination)
    assert (summary["lines"], summary["stored"]) == (3, 3)
    assert accepted(app.app) == {
        **{line(number)["text"]: 1 for number in range(4)},
        "Another text 1.": 1,
    }
    assert [(row["id"], row["line"]) for row in clips.rows()] == [
        ("clip-0003", 1),
        ("clip-0001", 2),
        ("clip-0000", 3),
        ("clip-0002", None),
    ]
    clips.require_true()


def test_line_set_to_pending_by_hand_is_resubmitted(app, manifest, clips):
    lines = manifest([line(0), line(1)])
    run_batch(lines, clips.destination)
    rows = [{**row, "status": "pending"} if row["id"] == "clip-0001" else row for row in clips.rows()]
    (clips.root / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run_batch(lines, clips.destination, "run-2")["stored"] == 2
    assert accepted(app.app) == {line(0)["text"]: 1, line(1)["text"]: 2}
    clips.require_true()


def test_removed_rows_are_resubmitted_once_the_summary_is_removed(app, manifest, clips):
    lines = manifest([line(0), line(1)])
    run_batch(lines, clips.destination)
    (clips.root / "results.jsonl").write_text(json.dumps(clips.row("clip-0000")) + "\n")
    with pytest.raises(DestinationError, match=r"has 1 of at least 2 lines.*to submit them again, remove .*summary"):
        run_batch(lines, clips.destination, "run-2")
    assert submits(app) == 2
    (clips.root / "summary.json").unlink()
    assert run_batch(lines, clips.destination, "run-2")["stored"] == 2
    assert accepted(app.app) == {line(0)["text"]: 1, line(1)["text"]: 2}


def test_resume_false_starts_over_in_a_new_run_but_not_a_retry(app, manifest, clips):
    lines = [line(0)]
    for run_id, count in (("run-1", 1), ("run-1", 1), ("run-2", 2), ("run-2", 2)):
        run_batch(manifest(lines), clips.destination, run_id=run_id, resume=False)
        assert submits(app) == count
        clips.require_true()


def test_clear_resubmits_only_failed_lines(app, manifest, clips):
    lines = [failing(number) for number in range(LINES)]
    with pytest.raises(AirflowFailException):
        run_batch(manifest(lines), clips.destination)
    with pytest.raises(AirflowFailException):
        run_batch(manifest(lines), clips.destination, max_tries=1)
    assert accepted(app.app) == {one["text"]: 2 if "[fail]" in one["text"] else 1 for one in lines}
    clips.require_true()


def test_retry_does_not_resubmit_failed_lines(app, manifest, clips):
    lines = manifest([failing(3), line(1)])
    for _ in range(2):
        with pytest.raises(AirflowFailException):
            run_batch(lines, clips.destination)
    assert set(accepted(app.app).values()) == {1}


def test_damaged_results_are_kept_and_nothing_is_submitted(app, manifest, clips):
    run_batch(manifest([line(0)]), clips.destination)
    (clips.root / "results.jsonl").write_text("damaged")
    with pytest.raises(DestinationError, match="records what is billed already"):
        run_batch(manifest([line(0)]), clips.destination)
    assert (clips.root / "results.jsonl").read_text() == "damaged"
    assert submits(app) == 1


@pytest.mark.slow
@pytest.mark.parametrize("fixture", ["clips", "s3_clips"])
def test_concurrent_run_is_rejected_and_the_holder_is_named(request, app, manifest, fixture):
    clips = request.getfixturevalue(fixture)
    lines = manifest(100)
    app.app.state.tasks._synthesis_time = (2, 3)
    first = threading.Thread(target=run_batch, args=(lines, clips.destination, "the-first-run"))
    first.start()
    while submits(app) < 10:
        first.join(0.05)
    with pytest.raises(DestinationLockedError, match="task 'batch' of DAG 'dag', run 'the-first-run'"):
        run_batch(lines, clips.destination, "the-second-run")
    first.join(60)
    assert set(accepted(app.app).values()) == {1}
    assert clips.statuses() == {"stored": 100}
    clips.require_true()


def test_line_with_an_expired_task_is_resubmitted_by_the_next_run(app, manifest, clips):
    app.app.state.tasks._synthesis_time = (600, 600)
    lines = manifest([line(0)])
    with pytest.raises(TaskDeferred):
        batch(lines, clips.destination, deferrable=True).execute(context())
    app.app.state.tasks._tasks.clear()
    app.app.state.tasks._synthesis_time = (0, 0)
    with pytest.raises(AirflowFailException, match="1 of 1 lines"):
        batch(lines, clips.destination).execute_complete(context(), {})
    assert "ResourceNotFound" in clips.row("clip-0000")["error"]
    assert run_batch(lines, clips.destination, "run-2")["stored"] == 1


@pytest.fixture
def deferred_run(app, manifest, clips):
    """Defer a batch of two lines that MPS accepted and then finished."""
    app.app.state.tasks._synthesis_time = (600, 600)
    with pytest.raises(TaskDeferred):
        batch(manifest([line(0), line(1)]), clips.destination, deferrable=True).execute(context())
    app.app.state.tasks._synthesis_time = (0, 0)
    app.finish_all_tasks()


@pytest.mark.usefixtures("deferred_run")
def test_line_changed_while_processing_is_resubmitted_and_logged(app, manifest, clips, capsys):
    earlier = clips.row("clip-0000")["TaskId"]
    summary = run_batch(manifest([line(0, text="Another text."), line(1)]), clips.destination)
    assert summary["stored"] == 2
    assert submits(app) == 3
    assert f"Line clip-0000 has changed, resubmitting it; task {earlier} of its earlier text is ignored" in (
        capsys.readouterr().out
    )


@pytest.mark.usefixtures("deferred_run")
def test_accepted_line_is_kept_when_broken_or_gone_later(app, manifest, clips, capsys):
    accepted_before = {row["id"]: row["TaskId"] for row in clips.rows()}
    summary = run_batch(manifest([line(0, pitch=99), line(2)]), clips.destination, on_line_failure="continue")
    assert (summary["invalid"], summary["stored"]) == (1, 1)
    kept = {row["id"]: row["TaskId"] for row in clips.rows() if row["line"] is None}
    assert kept == accepted_before
    assert "2 lines that MPS has accepted earlier are not in this manifest" in capsys.readouterr().out
    assert run_batch(manifest([line(0), line(1), line(2)]), clips.destination, "run-2")["stored"] == 3
    assert submits(app) == 3


def test_audio_not_stored_is_stored_by_a_retry_without_resubmit(app, manifest, clips):
    lines = manifest([line(0), line(1)])
    (clips.root / "clip-0000.wav").mkdir(parents=True)
    with pytest.raises(
        AirflowException, match=r"clip-0000 \(store_failed\).*A retry stores the audio that MPS has made"
    ) as caught:
        run_batch(lines, clips.destination)
    assert not isinstance(caught.value, AirflowFailException)
    (clips.root / "clip-0000.wav").rmdir()
    assert run_batch(lines, clips.destination)["stored"] == 2
    assert submits(app) == 2


@pytest.mark.slow
def test_full_disk_stops_submitting_and_a_retry_resumes(app, manifest, clips, monkeypatch):
    lines, write_rows = manifest(100), WriteAheadLog._write_rows

    def fill_disk(self, rows):
        if submits(app) >= 10:
            with translate_storage_errors(self._folder):
                raise OSError(errno.ENOSPC, "No space left on device")
        write_rows(self, rows)

    with monkeypatch.context() as patched:
        patched.setattr(WriteAheadLog, "_write_rows", fill_disk)
        with pytest.raises(DestinationError, match="The storage is full, so the batch was stopped"):
            run_batch(lines, clips.destination)
    before = accepted(app.app)
    assert len(before) < 10 + IN_FLIGHT
    summary = run_batch(lines, clips.destination, on_line_failure="continue")
    assert summary["stored"] + summary["unknown"] == 100
    assert summary["unknown"] <= IN_FLIGHT
    assert set(accepted(app.app).values()) == {1}
    clips.require_true()
