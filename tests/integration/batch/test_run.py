"""Batches over real HTTP into a folder and a real S3 server: what the contract promises, without faults."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, Asset
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_mps.batch import lease, run
from airflow_provider_mps.batch import line as module_of_lines
from airflow_provider_mps.batch.journal import Journal
from airflow_provider_mps.batch.lease import DestinationTakenError
from airflow_provider_mps.batch.objects import replace_object
from airflow_provider_mps.errors import DestinationError, InvalidRequestError, MpsPermanentError
from tests import faulty_emulator
from tests.batching import (
    LINES,
    accepted,
    batch,
    context,
    failing,
    line,
    run_batch,
    submits,
    wait_until,
    write_manifest,
)
from tests.scripted_server import RESET, ScriptedServer


@pytest.mark.parametrize("place", ["clips", "s3_clips"])
def test_every_line_is_submitted_once_awaited_and_stored_and_the_results_are_true(request, app, manifest, place):
    clips = request.getfixturevalue(place)
    told = run_batch(manifest(LINES), clips.destination)
    clips.require_true()
    assert clips.statuses() == {"stored": LINES}
    assert [row["line"] for row in clips.rows()] == list(range(1, LINES + 1))
    assert set(accepted(app.app).values()) == {1}
    row = clips.row("clip-0003")
    assert row["VoiceId"] == "voice-1"
    assert row["duration"] > 0
    assert row["path"] == f"{clips.destination}clip-0003.wav"
    assert told == {
        **told,
        "lines": LINES,
        "stored": LINES,
        "failed": 0,
        "characters": sum(len(line(number)["text"]) for number in range(LINES)),
        "results": f"{clips.destination}results.jsonl",
        "summary": f"{clips.destination}summary.json",
    }
    assert told["seconds"] == pytest.approx(sum(row["duration"] for row in clips.rows()), abs=0.01)
    assert told["bytes"] == sum(row["size"] for row in clips.rows())
    assert clips.summary() == {**clips.summary(), "lines": LINES, "stored": LINES, "finished": True}
    # Nothing is left but the audio and the results.
    left = [name for name in clips.root.fs.find(clips.root.path) if not name.endswith(".wav")]
    assert sorted(name.rpartition("/")[2] for name in left) == ["results.jsonl", "summary.json"]


def test_one_line_in_ten_that_fails_does_not_stop_the_others_and_the_task_fails_without_a_retry(app, manifest, clips):
    running = context()
    with pytest.raises(AirflowFailException, match=r"2 of 20 lines have no audio: clip-0003 \(failed\), clip-0013"):
        batch(manifest(failing(number) for number in range(LINES)), clips.destination).execute(running)
    assert clips.statuses() == {"stored": 18, "failed": 2}
    assert "ErrorCode 110" in clips.row("clip-0003")["error"]
    assert running["ti"].xcoms["summary"]["failed"] == 2
    assert "| 4 | clip-0003 | failed |" in running["ti"].xcoms["progress"]
    clips.require_true()


def test_who_chooses_to_continue_gets_the_others_and_the_failures_by_name(app, manifest, clips, capsys):
    lines = manifest(failing(number) for number in range(LINES))
    told = run_batch(lines, clips.destination, on_line_failure="continue")
    assert (told["stored"], told["failed"]) == (18, 2)
    assert "2 of 20 lines have no audio: clip-0003 (failed)" in capsys.readouterr().out


def test_of_a_line_that_may_have_been_accepted_it_is_told_that_a_clear_leaves_it(app, manifest, clips):
    lines = manifest(1)
    app.faults_of = lambda _: (502, b"bad gateway") if app.actions[-1] == "TextToSpeechAsync" else None
    for run_id in ("run-1", "run-2"):
        with pytest.raises(AirflowFailException, match="Unknown lines are left as they are") as caught:
            run_batch(lines, clips.destination, run_id)
        assert "clear the task" not in str(caught.value)
    assert submits(app) == 1


def test_broken_lines_are_told_by_number_and_the_others_are_stored(app, tmp_path, clips):
    lines = [
        json.dumps(line(0)),
        "{broken",
        json.dumps({"text": "no id", "voice_id": "v"}),
        json.dumps(line(0, text="a second one")),
        json.dumps(line(4, voice_id="")),
        json.dumps(line(5, pitch=99)),
        json.dumps(line(6, text="x" * 101)),
        json.dumps(line(7)),
    ]
    (tmp_path / "m.jsonl").write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    told = run_batch(f"file://{tmp_path}/m.jsonl", clips.destination, max_characters=100, on_line_failure="continue")
    assert (told["lines"], told["stored"], told["invalid"]) == (8, 2, 6)
    errors = {row["line"]: row["error"] for row in clips.rows() if row["status"] == "invalid"}
    assert "not JSON" in errors[2]
    assert "has no id" in errors[3]
    assert "is the one of line 1 already" in errors[4]
    assert "voice_id is empty" in errors[5]
    assert "pitch must be" in errors[6]
    assert "101 characters" in errors[7]
    clips.require_true()
    assert submits(app) == 2


def test_a_manifest_may_be_csv_with_texts_beside_it_and_defaults_for_all(app, tmp_path, clips):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "one.txt").write_text("Chapter one.")
    (tmp_path / "m.csv").write_text(
        "id,text_path,text,sample_rate\nbook/1,texts/one.txt,,\nbook/2,,Chapter two.,8000\n"
    )
    told = run_batch(f"file://{tmp_path}/m.csv", clips.destination, voice_id="voice-2", sample_rate=22050)
    assert told["stored"] == 2
    assert set(accepted(app.app)) == {"Chapter one.", "Chapter two."}
    assert {row["id"]: row["VoiceId"] for row in clips.rows()} == {"book/1": "voice-2", "book/2": "voice-2"}
    tasks = {task.text: task.style.sample_rate for task in app.app.state.tasks._tasks.values()}
    assert tasks == {"Chapter one.": 22050, "Chapter two.": 8000}
    assert sorted(name.partition("/clips/")[2] for name in clips.audio()) == ["book/1.wav", "book/2.wav"]


def test_an_empty_manifest_is_an_error(app, manifest, clips):
    with pytest.raises(InvalidRequestError, match="has no lines"):
        run_batch(manifest([]), clips.destination)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"manifest": "manifest.jsonl"}, "manifest is 'manifest.jsonl': give an ObjectStoragePath"),
        ({"destination": ""}, "destination is ''"),
        ({"destination": "nowhere://bucket/a"}, "nowhere"),
        ({"poll_interval": -1}, "no number of seconds"),
        ({"transfer_timeout": 0}, "transfer_timeout"),
        ({"sample_rate": 7}, "sample_rate"),
        ({"max_characters": "few"}, "max_characters"),
    ],
)
def test_an_argument_that_cannot_be_right_is_refused_before_any_call(connect, manifest, clips, options, said):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowFailException, match=said):
            run_batch(**{"manifest": manifest([line(0)]), "destination": clips.destination, **options})
        assert server.requests == []


@pytest.mark.parametrize("name", ["results.jsonl", "summary.json", ".mps-batch/manifest.jsonl", "more/../summary.json"])
def test_a_manifest_that_the_batch_would_overwrite_is_refused(app, clips, name):
    path = Path(clips.root.path) / name
    (clips.root / "more").mkdir(parents=True)
    path.parent.mkdir(exist_ok=True)
    manifest = write_manifest(path, [line(0)])
    with pytest.raises(InvalidRequestError, match="where the results of this destination are written"):
        run_batch(manifest, clips.destination)
    assert path.exists()
    assert submits(app) == 0


@pytest.mark.parametrize("options", [{"on_unknown": "hope"}, {"on_line_failure": "hope"}])
def test_a_choice_that_there_is_not_is_refused_when_the_dag_is_read(options):
    with pytest.raises(InvalidRequestError, match="must be one of"):
        batch("file:///m.jsonl", "file:///clips", **options)


def test_an_account_that_may_not_submit_stops_the_batch_and_leaves_the_lines_for_later(app, manifest, clips):
    lines = manifest(100)
    app.faults_of = lambda number: (
        faulty_emulator.api_error("FailedOperation.UserArrears") if app.actions[-1] == "TextToSpeechAsync" else None
    )
    with pytest.raises(MpsPermanentError, match="Settle the account's bill"):
        run_batch(lines, clips.destination)
    assert set(clips.statuses()) == {"pending"}
    app.faults_of = lambda _: None
    assert run_batch(lines, clips.destination)["stored"] == 100
    assert set(accepted(app.app).values()) == {1}


def test_an_outlet_is_told_of_the_results(app, manifest, clips):
    asset, events = Asset("file:///clips"), OutletEventAccessors()
    batch(manifest([line(0)]), clips.destination, outlets=[asset]).execute({**context(), "outlet_events": events})
    assert events[asset].extra["stored"] == 1
    assert events[asset].extra["uri"] == f"{clips.destination}results.jsonl"


def test_everything_a_user_would_render_is_templated():
    assert set(batch("file:///m", "file:///c").template_fields) == {
        "manifest",
        "destination",
        "voice_id",
        "text_lang",
        "ext_param",
        "sample_rate",
        "pitch",
        "max_characters",
        "mps_conn_id",
        "region",
    }


def test_a_text_that_cannot_be_read_at_first_is_read_and_one_that_is_not_there_is_told(
    app, manifest, clips, tmp_path, monkeypatch
):
    (tmp_path / "one.txt").write_text("This is line 1.")
    read, failures = module_of_lines.read_text, [1, 1]

    def flaky(path):
        if str(path).endswith("one.txt") and failures and failures.pop():
            raise AirflowException(f"text_path {path} could not be read this time")
        return read(path)

    monkeypatch.setattr(module_of_lines, "read_text", flaky)
    lines = [line(0, text=None, text_path="none.txt"), line(1, text=None, text_path="one.txt"), line(2)]
    told = run_batch(manifest(lines), clips.destination, on_line_failure="continue")
    assert (told["stored"], told["invalid"]) == (2, 1)
    assert "none.txt cannot be read (FileNotFoundError" in clips.row("clip-0000")["error"]


def test_while_it_runs_the_results_are_written_and_the_table_is_shown(app, manifest, clips, monkeypatch):
    monkeypatch.setattr(run, "TELL_EVERY", 0.2)
    app.app.state.tasks._synthesis_time = (600, 600)
    running = context()
    working = threading.Thread(
        target=batch(manifest([line(0), line(1)]), clips.destination).execute, args=(running,), daemon=True
    )
    working.start()
    wait_until(lambda: clips.root.joinpath("summary.json").exists() and clips.summary()["processing"] == 2)
    assert clips.statuses() == {"processing": 2}
    # The table is shown first, and may have come too early for the second line.
    wait_until(lambda: "| processing | 2 |" in running["ti"].xcoms["progress"])
    app.finish_all_tasks()
    working.join(30)
    assert clips.statuses() == {"stored": 2}


def test_who_has_lost_the_destination_writes_nothing_there_any_more(app, manifest, clips):
    app.app.state.tasks._synthesis_time = (600, 600)
    raised = []

    def work():
        with pytest.raises(DestinationTakenError) as caught:
            run_batch(manifest([line(0)]), clips.destination)
        raised.append(str(caught.value))

    working = threading.Thread(target=work, daemon=True)
    working.start()
    wait_until(lambda: len(accepted(app.app)) == 1)
    lock = clips.root / ".mps-batch" / "lock.json"
    results = (clips.root / "results.jsonl").read_bytes()
    other = lease.Holder("dag", "run-2", "task")
    while working.is_alive():  # again and again: a sign of life that was on its way is written over it
        replace_object(lock, other.to_bytes())
        working.join(0.1)
    assert "run 'run-2'" in raised[0]
    assert (clips.root / "results.jsonl").read_bytes() == results
    assert lease.Holder.parse(lock.read_bytes()) == other


def test_where_nothing_can_be_written_down_nothing_is_submitted_and_the_line_is_pending(
    app, manifest, clips, monkeypatch
):
    def full(*_):
        raise DestinationError("no space left")

    lines = manifest([line(0)])
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "_write_part", full)
        with pytest.raises(DestinationError, match="no space left"):
            run_batch(lines, clips.destination)
    assert (submits(app), clips.statuses()) == (0, {"pending": 1})
    assert run_batch(lines, clips.destination)["stored"] == 1
