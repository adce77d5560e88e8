"""Run the example DAGs of ``text_to_speech_subtitles.py`` as users do."""

import importlib
import json
from functools import partial

import pysubs2
import pytest
import soundfile

from airflow_provider_mps.emulator import app as emulator_app
from airflow_provider_mps.emulator.app import Options, make_app
from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator
from tests.batching import accepted

pytestmark = pytest.mark.slow

MODULE, DAG = "text_to_speech_subtitles", "text_to_speech_subtitles"
NOTIFICATION = "text_to_speech_notification"
CUES = [(500, 2500), (3000, 6000), (6500, 9000), (9500, 12500)]
"""Start and end of the cues of the form's default, in milliseconds."""


@pytest.fixture
def app(start_emulator, monkeypatch):
    module = importlib.import_module(MODULE)
    monkeypatch.setattr(module, "TextToSpeechBatchOperator", partial(TextToSpeechBatchOperator, poll_interval=0.2))
    app = make_app(Options(synthesis_time=0, voice="tone"))
    start_emulator(app)
    return app


def get_tasks(app):
    return list(app.state.tasks._tasks.values())


def read_rows(folder):
    return [json.loads(row) for row in (folder / "clips" / "results.jsonl").read_text().splitlines()]


def test_example_subtitles_become_a_track_with_real_times(run_dag, app, tmp_path, capfd):
    run = run_dag(MODULE, DAG, destination=f"file://{tmp_path}", voice_id="voice-1")
    assert run.state == "success"
    assert set(accepted(app)) == {
        "Good morning, and welcome.",
        "These words come from subtitles.",
        "Each cue becomes a clip,",
        "and all clips become one track.",
    }
    assert {(task.language, task.voice_id, task.style.duration) for task in get_tasks(app)} == {("en", "voice-1", None)}

    rows = read_rows(tmp_path)
    assert [(row["start"] * 1000, row["end"] * 1000) for row in rows] == CUES
    assert run.xcom("assemble") == f"file://{tmp_path}/track.wav"
    assert run.xcom("assemble", "VoiceId") == "voice-1"
    duration = soundfile.info(tmp_path / "track.wav").duration
    assert run.xcom("assemble", "duration") == pytest.approx(duration, abs=0.001)
    written = pysubs2.load(str(tmp_path / "track.srt"))
    times = [(event.start, event.end) for event in written]
    for (start, end), row in zip(times, rows, strict=True):
        assert start == row["start"] * 1000
        assert end - start == pytest.approx(row["duration"] * 1000, abs=1)
    assert f"file://{tmp_path}/track.wav is {duration:.2f} seconds long" in capfd.readouterr().out


def test_example_edited_cue_is_the_only_one_spoken_again(run_dag, app, tmp_path):
    run_dag(MODULE, DAG, destination=f"file://{tmp_path}/")
    subtitles = importlib.import_module(MODULE).SUBTITLES
    edited = subtitles.replace("Good morning", "Good evening")
    run = run_dag(MODULE, DAG, destination=f"file://{tmp_path}/", subtitles=edited)
    assert run.state == "success"
    assert accepted(app)["Good evening, and welcome."] == 1
    assert len(get_tasks(app)) == len(CUES) + 1
    assert pysubs2.load(str(tmp_path / "track.srt"))[0].plaintext == "Good evening, and welcome."


def test_example_form_sets_format_translation_and_fit(run_dag, app, tmp_path, monkeypatch):
    ext_params = []
    parse = emulator_app.parse_style
    monkeypatch.setattr(emulator_app, "parse_style", lambda text: ext_params.append(json.loads(text)) or parse(text))
    conf = {"format": "mp3", "translate_to": "ja", "fit_to_cues": True, "text_lang": "en"}
    run = run_dag(MODULE, DAG, destination=f"file://{tmp_path}/", **conf)
    assert run.state == "success"
    durations = sorted(task.style.duration for task in get_tasks(app))
    assert {params["transExt"]["transInfo"]["transDst"] for params in ext_params} == {"ja"}
    assert durations == sorted((end - start) / 1000 for start, end in CUES)
    assert soundfile.info(tmp_path / "track.mp3").subtype == "MPEG_LAYER_III"


def test_example_reads_the_named_file_and_ignores_the_form(run_dag, app, tmp_path):
    film = tmp_path / "film.vtt"
    film.write_text("WEBVTT\n\nintro\n00:01.000 --> 00:02.000\nFrom a file.\n")
    run = run_dag(MODULE, DAG, destination=f"file://{tmp_path}/out", subtitles_path=f"file://{film}")
    assert run.state == "success"
    assert list(accepted(app)) == ["From a file."]
    assert [row["id"] for row in read_rows(tmp_path / "out")] == ["intro"]
    assert list((tmp_path / "out").glob("subtitles.*")) == []


def test_example_recognizes_pasted_webvtt(run_dag, app, tmp_path):
    text = "WEBVTT\n\nNOTE a comment\n\n00:01.000 --> 00:02.000\nTom &amp; Ann.\n"
    run = run_dag(MODULE, DAG, destination=f"file://{tmp_path}", subtitles=text)
    assert run.state == "success"
    assert run.xcom("find_subtitles") == f"file://{tmp_path}/subtitles.vtt"
    assert list(accepted(app)) == ["Tom & Ann."]


def test_example_notification_is_an_mp3_of_one_call(run_dag, app, tmp_path):
    place = tmp_path / "notification.mp3"
    run = run_dag(MODULE, NOTIFICATION, text="Done {{ ds }}.", voice_id="voice-1", destination=f"file://{place}")
    assert run.state == "success"
    assert list(run.tasks) == ["speak"]
    assert accepted(app) == {"Done {{ ds }}.": 1}
    assert run.xcom("speak") == f"file://{place}"
    assert run.xcom("speak", "VoiceId") == "voice-1"
    info = soundfile.info(place)
    assert (info.format, info.samplerate) == ("MP3", 24000)
    assert info.duration == pytest.approx(run.xcom("speak", "duration"), abs=0.2)


@pytest.mark.parametrize(
    ("dag", "conf"),
    [
        (DAG, {"subtitles": ""}),
        (DAG, {"subtitles": "x" * 100_001}),
        (DAG, {"translate_to": "Klingon"}),
        (DAG, {"fit_to_cues": "perhaps"}),
        (DAG, {"format": "aac"}),
        (DAG, {"destination": ""}),
        (NOTIFICATION, {"text": ""}),
        (NOTIFICATION, {"text": "x" * 501}),
        (NOTIFICATION, {"voice_id": ""}),
    ],
)
def test_example_subtitles_form_rejects_invalid_values(run_dag, dag, conf):
    from airflow.providers.common.compat.sdk import ParamValidationError

    with pytest.raises(ParamValidationError):
        run_dag(MODULE, dag, **conf)
