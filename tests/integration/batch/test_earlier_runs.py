"""What a batch makes of what earlier runs, retries, clears and people have left in its destination."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider_mps.batch.lease import DestinationTakenError
from airflow_provider_mps.errors import DestinationError
from tests.batching import LINES, accepted, batch, context, failing, line, run_batch, submits


def written_at(clips):
    return {path: path.stat().st_mtime_ns for path in Path(clips.root.path).glob("*.wav")}


def test_a_run_with_the_same_destination_submits_and_stores_nothing_again(app, manifest, clips):
    lines = [line(number) for number in range(LINES)]
    run_batch(manifest(lines), clips.destination)
    before = written_at(clips)
    told = run_batch(manifest(lines), clips.destination, run_id="run-2")
    assert told["stored"] == LINES
    assert submits(app) == LINES
    assert written_at(clips) == before
    clips.require_true()


def test_a_line_that_changed_is_submitted_anew_and_what_an_earlier_manifest_had_is_kept(app, manifest, clips):
    run_batch(manifest([line(0), line(1), line(2)]), clips.destination)
    told = run_batch(manifest([line(3), line(1, text="Another text 1."), line(0)]), clips.destination)
    assert (told["lines"], told["stored"]) == (3, 3)
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


def test_a_line_is_done_again_where_somebody_sets_its_status_to_pending(app, manifest, clips):
    lines = manifest([line(0), line(1)])
    run_batch(lines, clips.destination)
    rows = [{**row, "status": "pending"} if row["id"] == "clip-0001" else row for row in clips.rows()]
    (clips.root / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run_batch(lines, clips.destination, "run-2")["stored"] == 2
    assert accepted(app.app) == {line(0)["text"]: 1, line(1)["text"]: 2}
    clips.require_true()


def test_lines_that_somebody_has_removed_from_the_results_are_done_again_once_that_is_certain(app, manifest, clips):
    lines = manifest([line(0), line(1)])
    run_batch(lines, clips.destination)
    (clips.root / "results.jsonl").write_text(json.dumps(clips.row("clip-0000")) + "\n")
    with pytest.raises(DestinationError, match=r"1 lines of at least 2.*to do them again, remove .*summary"):
        run_batch(lines, clips.destination, "run-2")
    assert submits(app) == 2
    (clips.root / "summary.json").unlink()
    assert run_batch(lines, clips.destination, "run-2")["stored"] == 2
    assert accepted(app.app) == {line(0)["text"]: 1, line(1)["text"]: 2}


def test_resume_false_starts_anew_in_another_run_and_never_in_a_retry(app, manifest, clips):
    lines = [line(0)]
    for run_id, paid in (("run-1", 1), ("run-1", 1), ("run-2", 2), ("run-2", 2)):
        run_batch(manifest(lines), clips.destination, run_id=run_id, resume=False)
        assert submits(app) == paid
        clips.require_true()


def test_after_the_end_a_clear_submits_what_failed_and_nothing_else(app, manifest, clips):
    lines = [failing(number) for number in range(LINES)]
    with pytest.raises(AirflowFailException):
        run_batch(manifest(lines), clips.destination)
    with pytest.raises(AirflowFailException):
        run_batch(manifest(lines), clips.destination, max_tries=1)
    assert accepted(app.app) == {one["text"]: 2 if "[fail]" in one["text"] else 1 for one in lines}
    clips.require_true()


def test_a_retry_does_not_submit_what_has_failed(app, manifest, clips):
    lines = manifest([failing(3), line(1)])
    for _ in range(2):
        with pytest.raises(AirflowFailException):
            run_batch(lines, clips.destination)
    assert set(accepted(app.app).values()) == {1}


def test_a_result_manifest_that_somebody_has_spoilt_is_left_as_it_is_and_nothing_is_paid(app, manifest, clips):
    run_batch(manifest([line(0)]), clips.destination)
    (clips.root / "results.jsonl").write_text("spoilt")
    with pytest.raises(DestinationError, match="tells what has been paid already"):
        run_batch(manifest([line(0)]), clips.destination)
    assert (clips.root / "results.jsonl").read_text() == "spoilt"
    assert submits(app) == 1


@pytest.mark.parametrize("place", ["clips", "s3_clips"])
def test_a_second_run_on_the_same_destination_is_refused_and_told_who_is_there(request, app, manifest, place):
    clips = request.getfixturevalue(place)
    lines = manifest(100)
    app.app.state.tasks._synthesis_time = (2, 3)
    first = threading.Thread(target=run_batch, args=(lines, clips.destination, "the-first-run"))
    first.start()
    while submits(app) < 10:
        first.join(0.05)
    with pytest.raises(DestinationTakenError, match="task 'batch' of DAG 'dag', run 'the-first-run'"):
        run_batch(lines, clips.destination, "the-second-run")
    first.join(60)
    assert set(accepted(app.app).values()) == {1}
    assert clips.statuses() == {"stored": 100}
    clips.require_true()


def test_a_task_that_mps_no_longer_knows_is_told_and_submitted_anew_by_the_next_run(app, manifest, clips):
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
def left_in_the_triggerer(app, manifest, clips):
    """A destination in which MPS has accepted two lines, and works at them."""
    app.app.state.tasks._synthesis_time = (600, 600)
    with pytest.raises(TaskDeferred):
        batch(manifest([line(0), line(1)]), clips.destination, deferrable=True).execute(context())
    app.app.state.tasks._synthesis_time = (0, 0)
    app.finish_all_tasks()


@pytest.mark.usefixtures("left_in_the_triggerer")
def test_a_line_that_changed_while_mps_works_at_it_is_submitted_anew_and_the_log_names_its_task(
    app, manifest, clips, capsys
):
    earlier = clips.row("clip-0000")["TaskId"]
    told = run_batch(manifest([line(0, text="Another text."), line(1)]), clips.destination)
    assert told["stored"] == 2
    assert submits(app) == 3
    assert f"Line clip-0000 has changed and is submitted anew; task {earlier} of its earlier text goes on" in (
        capsys.readouterr().out
    )


@pytest.mark.usefixtures("left_in_the_triggerer")
def test_a_line_that_mps_has_accepted_is_not_lost_where_it_is_broken_or_gone_now(app, manifest, clips, capsys):
    accepted_before = {row["id"]: row["TaskId"] for row in clips.rows()}
    told = run_batch(manifest([line(0, pitch=99), line(2)]), clips.destination, on_line_failure="continue")
    assert (told["invalid"], told["stored"]) == (1, 1)
    kept = {row["id"]: row["TaskId"] for row in clips.rows() if row["line"] is None}
    assert kept == accepted_before
    assert "2 lines that MPS has accepted earlier are not in this manifest" in capsys.readouterr().out
    assert run_batch(manifest([line(0), line(1), line(2)]), clips.destination, "run-2")["stored"] == 3
    assert submits(app) == 3


def test_audio_that_cannot_be_stored_this_time_is_stored_by_a_retry_without_paying(app, manifest, clips):
    lines = manifest([line(0), line(1)])
    (clips.root / "clip-0000.wav").mkdir(parents=True)
    with pytest.raises(AirflowException, match=r"clip-0000 \(unstored\).*A retry stores what MPS has made") as caught:
        run_batch(lines, clips.destination)
    assert not isinstance(caught.value, AirflowFailException)
    (clips.root / "clip-0000.wav").rmdir()
    assert run_batch(lines, clips.destination)["stored"] == 2
    assert submits(app) == 2
