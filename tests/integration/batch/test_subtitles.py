"""Subtitle files as manifests of real batches."""

from __future__ import annotations

import io
import json
import sys

import pytest
import soundfile
from airflow.providers.common.compat.sdk import AirflowFailException, ObjectStoragePath

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.operators.track import AssembleTrackOperator
from tests.batching import accepted, batch, context, run_batch, submits

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Good morning,</i>
captain.

2
00:00:02,400 --> 00:00:03,000
{\\an8}<b></b>

3
100:00:05,000 --> 100:00:06,250
Land ahoy!
"""
VTT = "WEBVTT\n\nNOTE\n00:00.000 --> 00:01.000\n\n" + SRT.replace(",0", ".0").replace(",5", ".5").replace(",2", ".2")
TIMES = [("cue-00001", 1.0, 2.5), ("cue-00003", 360005.0, 360006.25)]


@pytest.fixture
def subtitles(tmp_path):
    """Write a subtitle file."""

    def subtitles(content, name="film.srt"):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return f"file://{tmp_path}/{name}"

    return subtitles


@pytest.fixture
def ext_params(app):
    """The ``ExtParam`` of each submit, in the order of their arrival."""
    found, inner = [], app.app

    async def recording(scope, receive, send):
        body = bytearray()

        async def read():
            message = await receive()
            body.extend(message.get("body", b""))
            if not message.get("more_body") and b"ExtParam" in body:
                found.append(json.loads(json.loads(body)["ExtParam"]))
                body.clear()
            return message

        await inner(scope, read, send)

    app.app = recording
    recording.state = inner.state
    return found


def get_times(clips):
    return [(row["id"], row["start"], row["end"]) for row in clips.rows()]


@pytest.mark.parametrize(("name", "content"), [("film.srt", SRT), ("film.vtt", VTT)])
def test_cues_are_spoken_and_their_times_kept(app, subtitles, clips, name, content):
    airflow_context = context()
    result = batch(subtitles(content, name), clips.destination, voice_id="voice-1").execute(airflow_context)
    assert accepted(app.app) == {"Good morning, captain.": 1, "Land ahoy!": 1}
    assert get_times(clips) == TIMES
    assert (result["stored"], result["empty_cues"]) == (2, 1)
    assert clips.summary()["empty_cues"] == 1
    assert clips.summary()["subtitle_encoding"] == "utf-8"
    assert "| empty cues | 1 |" in airflow_context["ti"].xcoms["progress"]
    clips.require_true()


def test_fit_to_cues_makes_audio_as_long_as_its_cue(app, subtitles, clips):
    run_batch(subtitles(SRT), clips.destination, voice_id="voice-1", fit_to_cues=True, sample_rate=16000)
    lengths = {name[-13:]: soundfile.info(io.BytesIO(audio)).frames for name, audio in clips.audio().items()}
    assert lengths == {"cue-00001.wav": 24000, "cue-00003.wav": 20000}


def test_translation_and_cue_length_are_sent(app, ext_params, subtitles, clips):
    run_batch(subtitles(SRT), clips.destination, voice_id="voice-1", fit_to_cues=True, translate_to="fr")
    found = sorted(ext_params, key=lambda each: each["synExt"]["duration"])
    assert [each["synExt"] for each in found] == [{"duration": 1.25}, {"duration": 1.5}]
    assert [each["transExt"] for each in found] == 2 * [{"transInfo": {"transDst": "fr"}}]


def test_edited_cue_is_the_only_one_submitted_again(app, subtitles, clips):
    run_batch(subtitles(SRT), clips.destination, voice_id="voice-1")
    edited = SRT.replace("Land ahoy!", "Land in sight!")
    run_batch(subtitles(edited), clips.destination, "run-2", voice_id="voice-1")
    assert accepted(app.app) == {"Good morning, captain.": 1, "Land ahoy!": 1, "Land in sight!": 1}
    assert get_times(clips) == TIMES
    clips.require_true()


def test_retimed_cues_get_new_times_without_a_submit(app, subtitles, clips):
    run_batch(subtitles(SRT), clips.destination, voice_id="voice-1")
    retimed = SRT.replace("00:00:01,000", "00:00:00,500")
    run_batch(subtitles(retimed), clips.destination, "run-2", voice_id="voice-1")
    assert get_times(clips) == [("cue-00001", 0.5, 2.5), TIMES[1]]
    assert submits(app) == 2
    run_batch(subtitles(SRT), clips.destination, "run-3", voice_id="voice-1", fit_to_cues=True)
    assert submits(app) == 4


def test_blanked_cue_changes_no_other(app, subtitles, clips):
    run_batch(subtitles(SRT), clips.destination, voice_id="voice-1")
    blanked = SRT.replace("<i>Good morning,</i>\ncaptain.\n", "")
    result = run_batch(subtitles(blanked), clips.destination, "run-2", voice_id="voice-1")
    assert (result["lines"], result["empty_cues"], submits(app)) == (1, 2, 2)


def test_invalid_cues_are_reported_and_others_stored(app, subtitles, clips):
    broken = SRT.replace("00:00:02,400 --> 00:00:03,000", "00:00:02,400 -> 00:00:03,000")
    result = run_batch(subtitles(broken), clips.destination, voice_id="voice-1", on_line_failure="continue")
    assert (result["stored"], result["invalid"], submits(app)) == (2, 1, 2)
    (invalid,) = [row for row in clips.rows() if row["status"] == "invalid"]
    assert invalid["line"] == 7
    assert "is not a timing line" in invalid["error"]


def test_dry_run_reports_cues_and_empty_ones(app, subtitles, clips):
    airflow_context = context()
    report = batch(subtitles(SRT), clips.destination, voice_id="voice-1", dry_run=True).execute(airflow_context)
    assert (report["lines"], report["to_submit"], report["empty_cues"]) == (2, 2, 1)
    assert report["characters"] == len("Good morning, captain.Land ahoy!")
    assert "| empty cues | 1 |" in airflow_context["ti"].xcoms["progress"]
    assert not app.actions


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (SRT.replace("captain", "船长").encode("gb18030"), None, "Set subtitle_encoding"),
        (SRT.encode(), "klingon", "is not a text encoding of Python"),
        (SRT.replace("captain", "é").encode("cp1252"), "utf-8", "is not valid utf-8"),
        (b"1\n\nno cues\n", None, "has no cue"),
    ],
)
def test_file_that_cannot_be_decoded_bills_nothing(app, subtitles, clips, content, encoding, message):
    with pytest.raises(InvalidRequestError, match=message) as caught:
        run_batch(subtitles(content), clips.destination, voice_id="voice-1", subtitle_encoding=encoding)
    assert isinstance(caught.value, AirflowFailException)
    assert not app.actions


def test_declared_encoding_is_used(app, subtitles, clips):
    content = SRT.replace("captain", "船长").encode("gb18030")
    run_batch(subtitles(content), clips.destination, voice_id="voice-1", subtitle_encoding="gb18030")
    assert accepted(app.app)["Good morning, 船长."] == 1
    spoken = f"{clips.destination}spoken.srt"
    AssembleTrackOperator(
        task_id="track",
        results=clips.destination,
        destination=f"{clips.destination}track.wav",
        subtitles=spoken,
        timeline=False,
    ).execute(context())
    assert "Good morning, 船长." in ObjectStoragePath(spoken).read_text()


def test_guessed_encoding_is_logged(app, subtitles, clips, capsys):
    content = SRT.replace("captain", "capitán").encode("cp1252")
    run_batch(subtitles(content), clips.destination, voice_id="voice-1")
    assert "The encoding of the manifest was guessed as cp1252" in capsys.readouterr().out
    assert accepted(app.app)["Good morning, capitán."] == 1


def test_missing_pysubs2_bills_nothing(app, subtitles, clips, monkeypatch):
    monkeypatch.setitem(sys.modules, "pysubs2", None)
    with pytest.raises(InvalidRequestError, match=r"Install airflow-provider-mps\[subtitles\]"):
        run_batch(subtitles(SRT), clips.destination, voice_id="voice-1")
    assert not app.actions
