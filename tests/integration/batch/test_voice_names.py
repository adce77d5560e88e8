"""Batches whose lines name a voice in place of its VoiceId."""

from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_mps.exceptions import MpsApiError, MpsPermanentError
from airflow_provider_mps.hooks.mps import MpsHook
from tests.batching import accepted, batch, context, run_batch, submits
from tests.batching import line as numbered_line
from tests.faulty_emulator import make_api_error
from tests.scripted_server import RESET, ScriptedServer

SAMPLE = b"ID3" + bytes(50)
"""Passes for the beginning of an MP3 file."""
LINES = 12


def line(number, voice_name=None, **fields):
    return numbered_line(number, **{"voice_id": None, "voice_name": voice_name, **fields})


def look_ups(app):
    return app.actions.count("DescribeVoices")


def voices(clips):
    return {row["id"]: row["VoiceId"] for row in clips.rows()}


def test_batch_lists_voices_once_and_logs_each_id(app, manifest, clips, capsys):
    lines = manifest(
        [
            *(line(number, "Amy" if number % 2 else None) for number in range(LINES)),
            line(LINES, voice_id="voice-1"),
        ]
    )
    run_batch(lines, clips.destination, voice_name="Ben")
    clips.require_true()
    expected = {f"clip-{number:04}": "emulator-amy" if number % 2 else "emulator-ben" for number in range(LINES)}
    assert voices(clips) == {**expected, f"clip-{LINES:04}": "voice-1"}
    assert look_ups(app) == 1
    log = capsys.readouterr().out
    assert log.count("Voice 'Amy' has the VoiceId emulator-amy") == 1
    assert log.count("Voice 'Ben' has the VoiceId emulator-ben") == 1


def test_names_in_csv_override_the_operator(app, tmp_path, clips):
    (tmp_path / "m.csv").write_text("id,text,voice_id,voice_name\na,One.,,Amy\nb,Two.,voice-1,\nc,Three.,,\n")
    run_batch(f"file://{tmp_path}/m.csv", clips.destination, voice_id="voice-2")
    assert voices(clips) == {"a": "emulator-amy", "b": "voice-1", "c": "voice-2"}


def test_unknown_and_ambiguous_names_are_invalid_lines(app, manifest, clips):
    twins = [MpsHook().clone_voice(SAMPLE, "Twin") for _ in range(2)]
    lines = [line(0, "Amy"), line(1, "amy"), line(2, "amy"), line(3, "Twin"), line(4, "Amy", voice_id="voice-1")]
    with pytest.raises(AirflowFailException, match="4 of 5 lines have no audio"):
        run_batch(manifest(lines), clips.destination)
    assert clips.statuses() == {"stored": 1, "invalid": 4}
    assert "'Amy' ('emulator-amy')" in clips.row("clip-0001")["error"]
    assert all(twin in clips.row("clip-0003")["error"] for twin in twins)
    assert "both given" in clips.row("clip-0004")["error"]
    assert submits(app) == 1


def test_invalid_lines_are_not_looked_up(app, manifest, clips):
    with pytest.raises(AirflowFailException):
        run_batch(manifest([line(0, "Amy", pitch=99), line(1, "Amy", text="")]), clips.destination)
    assert look_ups(app) == 0


@pytest.mark.parametrize(
    ("code", "error"), [("InternalError", MpsApiError), ("UnauthorizedOperation", MpsPermanentError)]
)
def test_failed_look_up_stops_the_batch_and_a_retry_resumes_it(app, manifest, clips, no_waiting, code, error):
    lines = manifest([numbered_line(0), *(line(number, "Amy") for number in range(1, LINES))])
    app.faults_of = lambda _: make_api_error(code) if app.actions[-1] == "DescribeVoices" else None
    with pytest.raises(MpsApiError, match="DescribeVoices") as caught:
        run_batch(lines, clips.destination)
    assert type(caught.value) is error
    assert clips.statuses()["pending"] >= 1
    assert "invalid" not in clips.statuses()
    app.faults_of = lambda _: None
    run_batch(lines, clips.destination)
    assert clips.statuses() == {"stored": LINES}
    assert set(accepted(app.app).values()) == {1}


def test_dry_run_does_not_look_up_names(app, connect, manifest, clips):
    first = [line(0, "Amy"), line(1, "Amy")]
    run_batch(manifest(first), clips.destination)
    changed = [line(0, "Amy"), line(1, "Amy", text="Changed."), line(2, "Nobody"), line(3, "Amy", voice_id="v")]
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        report = batch(manifest(changed), clips.destination, dry_run=True).execute(context())
        assert server.requests == []
    assert (report["lines"], report["to_submit"], report["invalid"]) == (4, 2, 1)
    assert report["characters"] == len("Changed.") + len(first[0]["text"].replace("0", "2"))


def test_resumed_batch_submits_nothing_again_unless_the_name_has_moved(app, manifest, clips):
    hook = MpsHook()
    first = hook.clone_voice(SAMPLE, "Anna")
    lines = manifest([line(number, "Anna") for number in range(3)])
    run_batch(lines, clips.destination)
    hook.update_voice(first, name="Earlier Anna")
    second = hook.clone_voice(SAMPLE, "Anna")
    run_batch(manifest([line(number, "Earlier Anna") for number in range(3)]), clips.destination, "run-2")
    assert submits(app) == 3
    run_batch(manifest([line(number, "Anna") for number in range(3)]), clips.destination, "run-3")
    assert submits(app) == 6
    assert set(voices(clips).values()) == {second}


def test_lines_that_mps_accepted_are_stored_although_their_voice_is_deleted(app, manifest, clips):
    """The batch may be deferred, or may resume, after another task has deleted the voice."""
    hook = MpsHook()
    clone = hook.clone_voice(SAMPLE, "Anna")
    lines = [line(number, "Anna") for number in range(3)]
    run_batch(manifest(lines), clips.destination)
    hook.delete_voice(clone)
    # As if the batch had ended before it stored the audio of the first line.
    rows = [json.loads(row) for row in (clips.root / "results.jsonl").read_text().splitlines()]
    rows[0] |= {"status": "processing", "path": None, "duration": None, "size": None, "crc64": None}
    (clips.root / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (clips.root / "clip-0000.wav").unlink()
    run_batch(manifest(lines), clips.destination, "run-2")
    assert clips.statuses() == {"stored": 3}
    clips.require_true()
    with pytest.raises(AirflowFailException, match="1 of 3 lines have no audio"):
        run_batch(manifest([*lines[:2], line(2, "Anna", text="Changed.")]), clips.destination, "run-3")
    assert "is named 'Anna'" in next(row for row in clips.rows() if row["status"] == "invalid")["error"]
    assert submits(app) == 3


@pytest.mark.parametrize("change", ["delete", "duplicate", "replace"])
def test_deferred_batch_stores_its_lines_although_their_name_has_no_voice(app, manifest, clips, change):
    """Lines that MPS accepted before keep their voice: the same attempt must not bill them again."""
    app.app.state.tasks._synthesis_time = (600, 600)
    hook = MpsHook()
    clone = hook.clone_voice(SAMPLE, "Anna")
    lines = manifest([line(number, "Anna") for number in range(3)])
    with pytest.raises(TaskDeferred):
        batch(lines, clips.destination, deferrable=True).execute(context())
    assert voices(clips) == {f"clip-{number:04}": clone for number in range(3)}
    if change == "delete":
        hook.delete_voice(clone)
    elif change == "duplicate":
        hook.clone_voice(SAMPLE, "Anna")
    else:
        hook.update_voice(clone, name="Earlier Anna")
        hook.clone_voice(SAMPLE, "Anna")
    app.finish_all_tasks()
    result = batch(lines, clips.destination, deferrable=True, poll_interval=10).execute_complete(
        context(), {"finished": 3, "timed_out": False}
    )
    assert result["stored"] == 3
    assert submits(app) == 3
    clips.require_true()


def test_row_of_an_accepted_line_has_the_id_of_its_voice(start_emulator, app, manifest, clips):
    app.faults_of = lambda _: (
        make_api_error("InvalidParameterValue") if submits(app) and app.actions[-1] == "TextToSpeechAsync" else None
    )
    with pytest.raises(AirflowFailException):
        run_batch(manifest([line(0, "Amy"), numbered_line(1)]), clips.destination)
    assert voices(clips) == {"clip-0000": "emulator-amy", "clip-0001": None}


def test_many_names_need_one_query(app, manifest, clips):
    """A query for each name would exceed the quota, and stop the batch."""
    with pytest.raises(AirflowFailException, match="50 of 50 lines have no audio"):
        run_batch(manifest([line(number, f"Nobody {number}") for number in range(50)]), clips.destination)
    assert clips.statuses() == {"invalid": 50}
    assert look_ups(app) == 1
