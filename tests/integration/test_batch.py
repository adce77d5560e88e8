"""Batches over real HTTP into a folder and a real S3 server: what the contract promises, without faults."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, Asset, TaskDeferred
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_mps.batch import lease, run
from airflow_provider_mps.batch import line as module_of_lines
from airflow_provider_mps.batch.journal import Journal
from airflow_provider_mps.batch.lease import DestinationTakenError
from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.errors import DestinationError, InvalidRequestError, MpsPermanentError
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator
from tests import faulty_emulator
from tests.batching import QUICK_LEASE, Clips, accepted, batch, context, line, run_batch, wait_until, write_manifest
from tests.faulty_emulator import FaultyEmulator
from tests.scripted_server import RESET, ScriptedServer

LINES = 20


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, seconds in QUICK_LEASE.items():
        monkeypatch.setattr(lease, name, seconds)


@pytest.fixture
def app(start_emulator, connect):
    """The emulator: quick, with a quota that tests do not meet."""
    app = FaultyEmulator(Options(synthesis_time=(0.1, 0.5), rate_limit=1000, voice="tone"))
    emulator = start_emulator(app)
    app.connection_uri = f"{emulator.connection_uri}&requests_per_second=200"
    connect(app.connection_uri)
    return app


@pytest.fixture
def manifest(tmp_path):
    return lambda lines: write_manifest(tmp_path / "manifest.jsonl", lines)


@pytest.fixture
def clips(tmp_path):
    return Clips(f"file://{tmp_path}/clips/")


@pytest.fixture
def s3_clips(s3):
    return Clips(f"{s3.root}batch/")


def submits(app):
    return app.actions.count("TextToSpeechAsync")


def refused_connection(s3, monkeypatch):
    """A connection with a wrong key, and an id of its own: Airflow keeps a filesystem per connection id."""
    monkeypatch.setenv(f"AIRFLOW_CONN_REFUSED_{s3.port}", s3.connection(secret="wrong"))
    return f"refused_{s3.port}"


def written_at(clips):
    return {path: path.stat().st_mtime_ns for path in Path(clips.root.path).glob("*.wav")}


@pytest.mark.parametrize("place", ["clips", "s3_clips"])
def test_every_line_is_submitted_once_awaited_and_stored_and_the_results_are_true(request, app, manifest, place):
    clips = request.getfixturevalue(place)
    told = run_batch(manifest(line(number) for number in range(LINES)), clips.destination)
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


def failing(number):
    return line(number, text=f"[fail] {number}" if number % 10 == 3 else f"This is line {number}.")


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


def test_a_manifest_and_its_texts_may_lie_in_s3_where_a_missing_permission_is_told(app, s3, clips, monkeypatch):
    client = s3.client()
    client.put_object(Bucket="clips", Key="in/one.txt", Body=b"From a bucket.")
    body = json.dumps({"id": "one", "text_path": "one.txt", "voice_id": "v"})
    client.put_object(Bucket="clips", Key="in/m.jsonl", Body=body.encode())
    assert run_batch(f"{s3.root}in/m.jsonl", clips.destination)["stored"] == 1
    assert set(accepted(app.app)) == {"From a bucket."}

    refused = refused_connection(s3, monkeypatch)
    with pytest.raises(InvalidRequestError, match=rf"manifest s3://{refused}@clips/in/m.jsonl may not be read"):
        run_batch(f"s3://{refused}@clips/in/m.jsonl", clips.destination)


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


def test_a_result_manifest_that_somebody_has_spoilt_is_left_as_it_is_and_nothing_is_paid(app, manifest, clips):
    run_batch(manifest([line(0)]), clips.destination)
    (clips.root / "results.jsonl").write_text("spoilt")
    with pytest.raises(DestinationError, match="tells what has been paid already"):
        run_batch(manifest([line(0)]), clips.destination)
    assert (clips.root / "results.jsonl").read_text() == "spoilt"
    assert submits(app) == 1


def test_a_second_run_on_the_same_destination_is_refused_and_told_who_is_there(app, manifest, clips):
    lines = manifest(line(number) for number in range(100))
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


def test_when_only_waiting_is_left_the_triggerer_does_it_and_then_the_rest_is_stored(app, manifest, clips):
    app.app.state.tasks._synthesis_time = (600, 600)
    lines = manifest(line(number) for number in range(LINES))
    operator = batch(lines, clips.destination, deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context())
    _, arguments = deferred.value.trigger.serialize()
    assert sorted(arguments["mps_task_ids"]) == sorted(task.task_id for task in app.app.state.tasks._tasks.values())
    assert clips.statuses() == {"processing": LINES}
    with pytest.raises(DestinationTakenError, match=r"run 'run-1' \(try 1, deferred since"):
        run_batch(lines, clips.destination, "run-2")

    app.finish_all_tasks()
    told = batch(lines, clips.destination, deferrable=True).execute_complete(
        context(), {"finished": LINES, "timed_out": False}
    )
    assert told["stored"] == LINES
    assert submits(app) == LINES
    clips.require_true()


@pytest.mark.parametrize(
    ("method", "arguments", "error"),
    [
        ("execute_complete", {"event": {"timed_out": True}}, AirflowException),
        ("__fail__", {"error": "Trigger timeout"}, Exception),
    ],
)
def test_a_timeout_in_the_triggerer_may_be_retried_and_leaves_the_destination_to_others(
    app, manifest, clips, method, arguments, error
):
    app.app.state.tasks._synthesis_time = (600, 600)
    lines = manifest([line(0)])
    with pytest.raises(TaskDeferred):
        batch(lines, clips.destination, deferrable=True).execute(context())
    with pytest.raises(error) as caught:
        batch(lines, clips.destination, deferrable=True).resume_execution(method, arguments, context())
    assert not isinstance(caught.value, AirflowFailException)
    app.finish_all_tasks()
    assert run_batch(lines, clips.destination, "run-2")["stored"] == 1
    assert submits(app) == 1


def test_an_account_that_may_not_submit_stops_the_batch_and_leaves_the_lines_for_later(app, manifest, clips):
    lines = manifest(line(number) for number in range(100))
    app.faults_of = lambda number: (
        faulty_emulator.api_error("FailedOperation.UserArrears") if app.actions[-1] == "TextToSpeechAsync" else None
    )
    with pytest.raises(MpsPermanentError, match="Settle the account's bill"):
        run_batch(lines, clips.destination)
    assert set(clips.statuses()) == {"pending"}
    app.faults_of = lambda _: None
    assert run_batch(lines, clips.destination)["stored"] == 100
    assert set(accepted(app.app).values()) == {1}


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


def test_the_single_operator_may_read_its_text_from_s3_too(app, s3, monkeypatch):
    s3.client().put_object(Bucket="clips", Key="chapter.txt", Body="Ein Kapitel für sich.".encode())
    operator = TextToSpeechOperator(task_id="submit", text_path=f"{s3.root}chapter.txt", voice_id="v")
    operator.execute(context())
    assert set(accepted(app.app)) == {"Ein Kapitel für sich."}
    refused = refused_connection(s3, monkeypatch)
    operator = TextToSpeechOperator(task_id="submit", text_path=f"s3://{refused}@clips/chapter.txt", voice_id="v")
    with pytest.raises(InvalidRequestError, match="may not be read"):
        operator.execute(context())


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
    assert "| processing | 2 |" in running["ti"].xcoms["progress"]
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
    lock.write_bytes(other.to_bytes())
    working.join(30)
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


def test_audio_that_cannot_be_stored_this_time_is_stored_by_a_retry_without_paying(app, manifest, clips):
    lines = manifest([line(0), line(1)])
    (clips.root / "clip-0000.wav").mkdir(parents=True)
    with pytest.raises(AirflowException, match=r"clip-0000 \(unstored\).*A retry stores what MPS has made") as caught:
        run_batch(lines, clips.destination)
    assert not isinstance(caught.value, AirflowFailException)
    (clips.root / "clip-0000.wav").rmdir()
    assert run_batch(lines, clips.destination)["stored"] == 2
    assert submits(app) == 2
