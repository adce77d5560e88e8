"""The limit of a batch's characters, the characters by voice, and their cost."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_mps.batch.row import Row
from airflow_provider_mps.batch.row_store import RowStore
from airflow_provider_mps.batch.submitter import IN_FLIGHT, Submitter
from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.hooks.mps import MpsHook
from tests import batch_alone
from tests.batching import batch, context, line, run_batch, submits
from tests.faulty_emulator import make_api_error
from tests.processes import ChildProcess
from tests.voices import SAMPLE

BAD_GATEWAY = (502, b"bad gateway")


def text(number, characters=10, **fields):
    """Return a line whose text has exactly so many characters."""
    return line(number, text=f"{number}".rjust(characters, "x"), **fields)


def count_accepted(app):
    return sum(len(task.text) for task in app.app.state.tasks._tasks.values())


@pytest.fixture
def grow_at_first_submit(manifest, tmp_path, monkeypatch):
    """Write a manifest of text files, which become longer when the first of them is submitted."""

    def grow(count, characters, then):
        def write(characters):
            for number in range(count):
                (tmp_path / f"{number}.txt").write_text("x" * characters)

        async def write_then_submit(self, request, row):
            if not grown:
                grown.append(row.id)
                write(then)
            return await submit(self, request, row)

        grown, submit = [], Submitter.submit
        monkeypatch.setattr(Submitter, "submit", write_then_submit)
        write(characters)
        return manifest(
            {"id": f"clip-{number}", "text_path": f"{number}.txt", "voice_id": "voice-1"} for number in range(count)
        )

    return grow


@pytest.fixture
def unknown_submits(app):
    """Let the outcome of the first submits be unknown, although MPS has none of them."""

    def unknown(count):
        app.faults_of = lambda _: (
            BAD_GATEWAY if app.actions[-1] == "TextToSpeechAsync" and submits(app) <= count else None
        )

    return unknown


def test_batch_over_the_limit_makes_no_call(app, manifest, clips):
    with pytest.raises(InvalidRequestError) as error:
        run_batch(manifest(map(text, range(10))), clips.destination, max_total_characters=99)
    assert app.actions == []
    assert "100 characters in 10 lines are left to submit, more than max_total_characters (99)" in str(error.value)
    assert run_batch(manifest(map(text, range(10))), clips.destination, max_total_characters="100")["stored"] == 10
    clips.require_true()


def test_refused_batch_leaves_results_unchanged(app, manifest, clips):
    run_batch(manifest(map(text, range(3))), clips.destination, price_per_1000_characters=1)
    before = clips.rows(), clips.summary()
    for limit in (9, ""):  # as a template renders, if the XCom with the limit is missing
        with pytest.raises(InvalidRequestError, match="max_total_characters"):
            run_batch(manifest(map(text, range(4))), clips.destination, "run-2", max_total_characters=limit)
    assert (clips.rows(), clips.summary()) == before
    assert submits(app) == 3
    assert run_batch(manifest(map(text, range(4))), clips.destination, "run-2", max_total_characters=10)["stored"] == 4
    assert submits(app) == 4


def test_limit_counts_only_what_is_left(app, manifest, clips):
    run_batch(manifest(map(text, range(5))), clips.destination)
    lines = [*map(text, range(7)), text(1), {"id": "bad"}, {"id": "bad", "text": "x" * 1000}]
    with pytest.raises(InvalidRequestError, match="20 characters in 2 lines"):
        run_batch(manifest(lines), clips.destination, "run-2", max_total_characters=19, max_characters=900)
    assert submits(app) == 5
    result = run_batch(
        manifest(lines),
        clips.destination,
        "run-3",
        max_total_characters=20,
        max_characters=900,
        on_line_failure="continue",
    )
    assert (result["stored"], submits(app)) == (7, 7)
    # Nothing is left, so even a limit of 0 is not exceeded.
    assert run_batch(manifest(map(text, range(7))), clips.destination, "run-4", max_total_characters=0)["stored"] == 7
    assert submits(app) == 7


def test_limit_counts_text_files(app, manifest, clips, tmp_path):
    lines = []
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text("x" * 10)
        lines.append({"id": f"{number}", "text_path": f"{number}.txt", "voice_id": "voice-1"})
    with pytest.raises(InvalidRequestError, match="400 characters in 40 lines"):
        run_batch(manifest(lines), clips.destination, max_total_characters=399)
    assert app.actions == []


@pytest.mark.parametrize("deferrable", [False, True])
def test_texts_that_grow_after_the_count_stay_within_the_limit(app, manifest, clips, grow_at_first_submit, deferrable):
    path = grow_at_first_submit(80, 10, 30)
    with pytest.raises(InvalidRequestError, match=r"would exceed max_total_characters \(800\), of which \d+ are used"):
        run_batch(path, clips.destination, max_total_characters=800, deferrable=deferrable)
    assert 0 < count_accepted(app) <= 800
    assert set(clips.statuses()) <= {"pending", "stored", "processing"}
    assert clips.statuses()["pending"] > 0
    # What is left is counted again: the longer texts are over the limit, too.
    accepted = submits(app)
    with pytest.raises(InvalidRequestError, match="are left to submit, more than"):
        run_batch(path, clips.destination, "run-2", max_total_characters=800)
    assert submits(app) == accepted
    clips.require_true()


def test_name_with_another_voice_since_the_count_stays_within_the_limit(app, manifest, clips):
    """The count takes the VoiceId of the earlier run: only the look-up shows that lines must be submitted again."""
    hook = MpsHook()
    clone = hook.clone_voice(SAMPLE, "Anna")
    lines = manifest(text(number, voice_id=None, voice_name="Anna") for number in range(3))
    run_batch(lines, clips.destination)
    before = count_accepted(app)
    hook.update_voice(clone, name="Earlier Anna")
    hook.clone_voice(SAMPLE, "Anna")
    with pytest.raises(InvalidRequestError, match=r"would exceed max_total_characters \(20\)"):
        run_batch(lines, clips.destination, "run-2", max_total_characters=20)
    assert count_accepted(app) <= before + 20


def test_repeated_submits_count_within_the_limit(app, manifest, clips, unknown_submits):
    unknown_submits(1)
    path = manifest(map(text, range(40)))
    with pytest.raises(InvalidRequestError, match="a submit was repeated"):
        run_batch(path, clips.destination, max_total_characters=400, on_unknown="resubmit")
    assert 1 < submits(app) <= 40
    unknown_submits(0)
    before, left = submits(app), 400 - count_accepted(app)
    result = run_batch(path, clips.destination, "run-2", max_total_characters=left, on_unknown="resubmit")
    assert (result["stored"], submits(app)) == (40, before + left // 10)


def test_unknown_line_is_not_repeated_over_the_limit(app, manifest, clips, unknown_submits):
    unknown_submits(1)
    with pytest.raises(AirflowFailException, match="1 of 1 lines have no audio"):
        run_batch(manifest([text(0)]), clips.destination, max_total_characters=19, on_unknown="resubmit")
    assert clips.statuses() == {"unknown": 1}
    assert submits(app) == 1


def test_throttled_and_rejected_lines_do_not_use_up_the_limit(app, manifest, clips):
    def fault(_):
        if app.actions[-1] != "TextToSpeechAsync":
            return None
        return {1: make_api_error("RequestLimitExceeded"), 2: make_api_error("InvalidParameterValue")}.get(submits(app))

    app.faults_of = fault
    result = run_batch(
        manifest(map(text, range(8))), clips.destination, max_total_characters=80, on_line_failure="continue"
    )
    assert (result["stored"], result["rejected"], submits(app)) == (7, 1, 9)


def test_deferred_batch_keeps_its_limit_and_does_not_count_again(app, manifest, clips):
    app.app.state.tasks._synthesis_time = (600, 600)
    options = {"deferrable": True, "max_total_characters": 40}
    path = manifest(map(text, range(3)))
    with pytest.raises(TaskDeferred) as deferred:
        batch(path, clips.destination, **options).execute(context())
    assert deferred.value.kwargs == {"submitted_characters": 30}
    app.finish_all_tasks()
    manifest(map(text, range(8)))
    event = {"finished": 3, "timed_out": False}
    resumed = batch(path, clips.destination, **{**options, "deferrable": False})
    with pytest.raises(InvalidRequestError, match=r"would exceed max_total_characters \(40\), of which 40 are used"):
        resumed.execute_complete(context(), event, **deferred.value.kwargs)
    assert clips.statuses()["stored"] >= 3
    assert count_accepted(app) <= 40


@pytest.mark.kill
def test_killed_batch_counts_what_is_left(app, manifest, clips, tmp_path):
    app.app.state.tasks._synthesis_time = (600, 600)
    path = manifest(map(text, range(400)))

    def start(name, limit):
        arguments = [path, clips.destination, "--max-total-characters", str(limit)]
        return ChildProcess(batch_alone.main, arguments, output=tmp_path / name)

    with start("killed.txt", 4000) as killed:
        killed.wait_until(lambda: submits(app) > 100)
    before = len(app.app.state.tasks._tasks)
    assert before < 400
    app.app.state.tasks._synthesis_time = (0.1, 0.2)
    app.finish_all_tasks()
    left = 10 * (400 - before)
    # Lines in flight are not left if the log has them, as accepted or unknown.
    with start("refused.txt", left - 10 * IN_FLIGHT - 1) as refused:
        assert "are left to submit, more than max_total_characters" in refused.wait()
    assert len(app.app.state.tasks._tasks) == before
    with start("resumed.txt", left) as resumed:
        resumed.wait()
    assert clips.statuses()["stored"] + clips.statuses()["unknown"] == 400
    assert count_accepted(app) <= 4000


def test_dry_run_reports_whether_the_limit_is_exceeded(app, manifest, clips):
    path = manifest([text(0), text(1, voice_id="voice-2"), text(2, voice_id=None, voice_name="Anna | B")])
    for limit, exceeds in ((29, True), ("30", False)):
        airflow_context = context()
        report = batch(path, clips.destination, dry_run=True, max_total_characters=limit).execute(airflow_context)
        assert (report["max_total_characters"], report["exceeds_limit"]) == (int(limit), exceeds)
        assert f"| max total characters | {limit} |" in airflow_context["ti"].xcoms["progress"]
    report = batch(path, clips.destination, dry_run=True, price_per_1000_characters=0.1).execute(airflow_context)
    assert report["characters_by_voice"] == {"Anna | B": 10, "voice-1": 10, "voice-2": 10}
    assert report["lines_by_voice"] == {"Anna | B": 1, "voice-1": 1, "voice-2": 1}
    assert (report["cost"], report["cost_by_voice"]["voice-1"]) == (0.003, 0.001)
    assert "exceeds_limit" not in report
    assert "| Anna \\| B | 1 | 10 | 0.0010 |" in airflow_context["ti"].xcoms["progress"]
    assert app.actions == []


def test_results_have_characters_and_cost_by_voice(app, manifest, clips, capsys):
    hook = MpsHook()
    clone = hook.clone_voice(SAMPLE, "Anna")
    lines = [text(0), text(1, 30), text(2, 20, voice_id=None, voice_name="Anna"), {"id": "bad"}]
    airflow_context = context()
    operator = batch(manifest(lines), clips.destination, price_per_1000_characters="1.005", on_line_failure="continue")
    result = operator.execute(airflow_context)
    assert result["characters_by_voice"] == {"voice-1": 40, clone: 20}
    assert result["lines_by_voice"] == {"voice-1": 2, clone: 1}
    assert (result["cost"], result["cost_by_voice"]) == (0.0603, {"voice-1": 0.0402, clone: 0.0201})
    assert clips.summary().items() >= {name: result[name] for name in ("characters_by_voice", "cost")}.items()
    assert f"| {clone} | 1 | 20 | 0.0201 |" in airflow_context["ti"].xcoms["progress"]
    logged = capsys.readouterr().out
    assert "60 characters accepted (cost 0.0603)" in logged
    assert f"voice-1: 40 characters (cost 0.0402); {clone}: 20 characters" in logged


def test_processing_lines_know_their_voice(app, manifest, clips):
    app.app.state.tasks._synthesis_time = (600, 600)
    with pytest.raises(TaskDeferred):
        batch(manifest([text(0), text(1, voice_id="voice-2")]), clips.destination, deferrable=True).execute(context())
    assert clips.statuses() == {"processing": 2}
    assert clips.summary()["characters_by_voice"] == {"voice-1": 10, "voice-2": 10}
    # As in results of version 1.0, which had no VoiceId until the audio was stored.
    store = RowStore()
    store.load(Row.from_json({**row, "VoiceId": None}) for row in clips.rows())
    assert store.summarize().to_json()["characters_by_voice"] == {"unknown": 20}
