"""Batches over real HTTP into a folder and a real S3 server, without faults."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, Asset
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_mps.batch import lease, run
from airflow_provider_mps.batch import line as line_module
from airflow_provider_mps.batch.write_ahead_log import WriteAheadLog
from airflow_provider_mps.exceptions import (
    DestinationError,
    DestinationLockedError,
    InvalidRequestError,
    MpsPermanentError,
)
from airflow_provider_mps.storage.objects import replace_object
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
def test_batch_submits_each_line_once_and_stores_it(request, app, manifest, place):
    clips = request.getfixturevalue(place)
    result = run_batch(manifest(LINES), clips.destination)
    clips.require_true()
    assert clips.statuses() == {"stored": LINES}
    assert [row["line"] for row in clips.rows()] == list(range(1, LINES + 1))
    assert set(accepted(app.app).values()) == {1}
    row = clips.row("clip-0003")
    assert row["VoiceId"] == "voice-1"
    assert row["duration"] > 0
    assert row["path"] == f"{clips.destination}clip-0003.wav"
    assert result == {
        **result,
        "lines": LINES,
        "stored": LINES,
        "failed": 0,
        "characters": sum(len(line(number)["text"]) for number in range(LINES)),
        "results": f"{clips.destination}results.jsonl",
        "summary": f"{clips.destination}summary.json",
    }
    assert result["seconds"] == pytest.approx(sum(row["duration"] for row in clips.rows()), abs=0.01)
    assert result["bytes"] == sum(row["size"] for row in clips.rows())
    assert clips.summary() == {**clips.summary(), "lines": LINES, "stored": LINES, "finished": True}
    # Only the audio and the results remain.
    left = [name for name in clips.root.fs.find(clips.root.path) if not name.endswith(".wav")]
    assert sorted(name.rpartition("/")[2] for name in left) == ["results.jsonl", "summary.json"]


def test_failed_lines_fail_the_task_after_the_others_are_stored(app, manifest, clips):
    task_context = context()
    with pytest.raises(AirflowFailException, match=r"2 of 20 lines have no audio: clip-0003 \(failed\), clip-0013"):
        batch(manifest(failing(number) for number in range(LINES)), clips.destination).execute(task_context)
    assert clips.statuses() == {"stored": 18, "failed": 2}
    assert "ErrorCode 110" in clips.row("clip-0003")["error"]
    assert task_context["ti"].xcoms["summary"]["failed"] == 2
    assert "| 4 | clip-0003 | failed |" in task_context["ti"].xcoms["progress"]
    clips.require_true()


def test_on_line_failure_continue_succeeds_and_names_failed_lines(app, manifest, clips, capsys):
    lines = manifest(failing(number) for number in range(LINES))
    result = run_batch(lines, clips.destination, on_line_failure="continue")
    assert (result["stored"], result["failed"]) == (18, 2)
    assert "2 of 20 lines have no audio: clip-0003 (failed)" in capsys.readouterr().out


def test_unknown_line_is_reported_and_left_by_another_run(app, manifest, clips):
    lines = manifest(1)
    app.faults_of = lambda _: (502, b"bad gateway") if app.actions[-1] == "TextToSpeechAsync" else None
    for run_id in ("run-1", "run-2"):
        with pytest.raises(AirflowFailException, match="Unknown lines are not submitted again") as caught:
            run_batch(lines, clips.destination, run_id)
        assert "clear the task" not in str(caught.value)
    assert submits(app) == 1


def test_invalid_lines_are_reported_by_number_and_others_stored(app, tmp_path, clips):
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
    result = run_batch(f"file://{tmp_path}/m.jsonl", clips.destination, max_characters=100, on_line_failure="continue")
    assert (result["lines"], result["stored"], result["invalid"]) == (8, 2, 6)
    errors = {row["line"]: row["error"] for row in clips.rows() if row["status"] == "invalid"}
    assert "not JSON" in errors[2]
    assert "has no id" in errors[3]
    assert "is already used by line 1" in errors[4]
    assert "voice_id is empty" in errors[5]
    assert "pitch must be" in errors[6]
    assert "101 characters" in errors[7]
    clips.require_true()
    assert submits(app) == 2


def test_csv_manifest_with_text_files_and_defaults_is_processed(app, tmp_path, clips):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "one.txt").write_text("Chapter one.")
    (tmp_path / "m.csv").write_text(
        "id,text_path,text,sample_rate\nbook/1,texts/one.txt,,\nbook/2,,Chapter two.,8000\n"
    )
    result = run_batch(f"file://{tmp_path}/m.csv", clips.destination, voice_id="voice-2", sample_rate=22050)
    assert result["stored"] == 2
    assert set(accepted(app.app)) == {"Chapter one.", "Chapter two."}
    assert {row["id"]: row["VoiceId"] for row in clips.rows()} == {"book/1": "voice-2", "book/2": "voice-2"}
    tasks = {task.text: task.style.sample_rate for task in app.app.state.tasks._tasks.values()}
    assert tasks == {"Chapter one.": 22050, "Chapter two.": 8000}
    assert sorted(name.partition("/clips/")[2] for name in clips.audio()) == ["book/1.wav", "book/2.wav"]


def test_empty_manifest_fails(app, manifest, clips):
    with pytest.raises(InvalidRequestError, match="has no lines"):
        run_batch(manifest([]), clips.destination)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"manifest": "manifest.jsonl"}, "manifest is 'manifest.jsonl': give an ObjectStoragePath"),
        ({"destination": ""}, "destination is ''"),
        ({"destination": "nowhere://bucket/a"}, "nowhere"),
        ({"poll_interval": -1}, "not a number of seconds"),
        ({"transfer_timeout": 0}, "transfer_timeout"),
        ({"sample_rate": 7}, "sample_rate"),
        ({"target_duration": 0}, "target_duration"),
        ({"max_characters": "few"}, "max_characters"),
    ],
)
def test_invalid_argument_fails_before_any_call(connect, manifest, clips, options, message):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowFailException, match=message):
            run_batch(**{"manifest": manifest([line(0)]), "destination": clips.destination, **options})
        assert server.requests == []


@pytest.mark.parametrize("name", ["results.jsonl", "summary.json", ".mps-batch/manifest.jsonl", "more/../summary.json"])
def test_manifest_with_a_reserved_name_is_rejected(app, clips, name):
    path = Path(clips.root.path) / name
    (clips.root / "more").mkdir(parents=True)
    path.parent.mkdir(exist_ok=True)
    manifest = write_manifest(path, [line(0)])
    with pytest.raises(InvalidRequestError, match="where the results of this destination are written"):
        run_batch(manifest, clips.destination)
    assert path.exists()
    assert submits(app) == 0


@pytest.mark.parametrize("options", [{"on_unknown": "invalid"}, {"on_line_failure": "invalid"}])
def test_unknown_choice_is_rejected_when_the_dag_is_parsed(options):
    with pytest.raises(InvalidRequestError, match="must be one of"):
        batch("file:///m.jsonl", "file:///clips", **options)


def test_account_in_arrears_stops_the_batch_and_a_retry_resumes_it(app, manifest, clips):
    lines = manifest(100)
    app.faults_of = lambda number: (
        faulty_emulator.make_api_error("FailedOperation.UserArrears")
        if app.actions[-1] == "TextToSpeechAsync"
        else None
    )
    with pytest.raises(MpsPermanentError, match="Settle the account's bill"):
        run_batch(lines, clips.destination)
    assert set(clips.statuses()) == {"pending"}
    app.faults_of = lambda _: None
    assert run_batch(lines, clips.destination)["stored"] == 100
    assert set(accepted(app.app).values()) == {1}


def test_outlet_receives_an_asset_event_with_the_results(app, manifest, clips):
    asset, events = Asset("file:///clips"), OutletEventAccessors()
    batch(manifest([line(0)]), clips.destination, outlets=[asset], partition_key="day").execute(
        {**context(), "outlet_events": events}
    )
    assert events[asset].partition_keys == {"day"}
    assert events[asset].extra["stored"] == 1
    assert events[asset].extra["uri"] == f"{clips.destination}results.jsonl"


def test_template_fields_of_the_batch_operator():
    assert set(batch("file:///m", "file:///c").template_fields) == {
        "manifest",
        "destination",
        "voice_id",
        "voice_name",
        "text_lang",
        "ext_param",
        "sample_rate",
        "pitch",
        "target_duration",
        "translate_to",
        "translate_requirement",
        "fit_to_cues",
        "subtitle_encoding",
        "max_characters",
        "partition_key",
        "mps_conn_id",
        "region",
    }


def test_text_path_read_error_is_retried_and_missing_file_reported(app, manifest, clips, tmp_path, monkeypatch):
    (tmp_path / "one.txt").write_text("This is line 1.")
    read, failures = line_module.read_text, [1, 1]

    def fail_twice(path):
        if str(path).endswith("one.txt") and failures and failures.pop():
            raise AirflowException(f"text_path {path} could not be read this time")
        return read(path)

    monkeypatch.setattr(line_module, "read_text", fail_twice)
    lines = [line(0, text=None, text_path="none.txt"), line(1, text=None, text_path="one.txt"), line(2)]
    result = run_batch(manifest(lines), clips.destination, on_line_failure="continue")
    assert (result["stored"], result["invalid"]) == (2, 1)
    assert "none.txt cannot be read (FileNotFoundError" in clips.row("clip-0000")["error"]


def test_running_batch_writes_results_and_pushes_progress(app, manifest, clips, monkeypatch):
    monkeypatch.setattr(run, "REPORT_INTERVAL_SECONDS", 0.2)
    app.app.state.tasks._synthesis_time = (600, 600)
    task_context = context()
    worker = threading.Thread(
        target=batch(manifest([line(0), line(1)]), clips.destination).execute, args=(task_context,), daemon=True
    )
    worker.start()
    wait_until(lambda: clips.root.joinpath("summary.json").exists() and clips.summary()["processing"] == 2)
    assert clips.statuses() == {"processing": 2}
    # The table is pushed first, perhaps before the second line was submitted.
    wait_until(lambda: "| processing | 2 |" in task_context["ti"].xcoms["progress"])
    app.finish_all_tasks()
    worker.join(30)
    assert clips.statuses() == {"stored": 2}


def test_batch_that_lost_its_lock_writes_no_results(app, manifest, clips):
    app.app.state.tasks._synthesis_time = (600, 600)
    raised = []

    def work():
        with pytest.raises(DestinationLockedError) as caught:
            run_batch(manifest([line(0)]), clips.destination)
        raised.append(str(caught.value))

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    wait_until(lambda: len(accepted(app.app)) == 1)
    lock = clips.root / ".mps-batch" / "lock.json"
    results = (clips.root / "results.jsonl").read_bytes()
    other = lease.LockHolder("dag", "run-2", "task")
    while worker.is_alive():  # repeatedly: a heartbeat in flight may overwrite it
        replace_object(lock, other.to_bytes())
        worker.join(0.1)
    assert "run 'run-2'" in raised[0]
    assert (clips.root / "results.jsonl").read_bytes() == results
    assert lease.LockHolder.parse(lock.read_bytes()) == other


def test_write_ahead_log_failure_submits_nothing(app, manifest, clips, monkeypatch):
    def fail(*_):
        raise DestinationError("no space left")

    lines = manifest([line(0)])
    with monkeypatch.context() as patched:
        patched.setattr(WriteAheadLog, "_write_rows", fail)
        with pytest.raises(DestinationError, match="no space left"):
            run_batch(lines, clips.destination)
    assert (submits(app), clips.statuses()) == (0, {"pending": 1})
    assert run_batch(lines, clips.destination)["stored"] == 1
