"""
Run the example DAGs of ``text_to_speech_subtitles.py`` as users do.

Tests with ``start_service`` also run against an account, so nothing in them depends on the emulator.
"""

import importlib
import io
import json
from functools import partial

import pysubs2
import pytest
import soundfile

from airflow_provider_mps.emulator import app as emulator_app
from airflow_provider_mps.emulator.app import Options, make_app
from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator
from tests.batching import accepted
from tests.system.results import open_file, read_duration, require_success

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("dags of integration")]

MODULE, DAG = "text_to_speech_subtitles", "text_to_speech_subtitles"
NOTIFICATION = "text_to_speech_notification"
CUES = [(500, 2500), (3000, 6000), (6500, 9000), (9500, 12500)]
"""Start and end of the cues of the form's default, in milliseconds."""


@pytest.fixture(autouse=True)
def short_poll_interval(monkeypatch):
    module = importlib.import_module(MODULE)
    monkeypatch.setattr(module, "TextToSpeechBatchOperator", partial(TextToSpeechBatchOperator, poll_interval=0.2))


@pytest.fixture
def app(start_emulator):
    app = make_app(Options(synthesis_time=0, voice="tone"))
    start_emulator(app)
    return app


def get_tasks(app):
    return list(app.state.tasks._tasks.values())


def read_subtitles(path):
    with open_file(path) as file:
        return pysubs2.SSAFile.from_string(file.read().decode())


def read_rows(folder):
    with open_file(f"{folder}/clips/results.jsonl") as file:
        return [json.loads(row) for row in file]


@pytest.mark.example_dag("text_to_speech_subtitles")
def test_example_subtitles_become_a_track_with_real_times(run_dag, start_service, capfd):
    service = start_service()
    run = run_dag(MODULE, DAG, destination=service.destination, voice_id=service.voice_id)
    require_success(run)
    rows = read_rows(service.destination)
    assert [(row["start"] * 1000, row["end"] * 1000) for row in rows] == CUES
    track = f"{service.destination}/track.wav"
    assert run.xcom("assemble") == track
    assert run.xcom("assemble", "VoiceId") == service.voice_id
    duration = read_duration(track)
    assert run.xcom("assemble", "duration") == pytest.approx(duration, abs=0.001)
    written = read_subtitles(f"{service.destination}/track.srt")
    times = [(event.start, event.end) for event in written]
    for (start, end), row in zip(times, rows, strict=True):
        assert start == row["start"] * 1000
        assert end - start == pytest.approx(row["duration"] * 1000, abs=1)
    assert f"{track} is {duration:.2f} seconds long" in capfd.readouterr().out


def test_example_edited_cue_is_the_only_one_spoken_again(run_dag, app, tmp_path):
    run_dag(MODULE, DAG, destination=f"file://{tmp_path}/", voice_id="voice-1")
    assert set(accepted(app)) == {
        "Good morning, and welcome.",
        "These words come from subtitles.",
        "Each cue becomes a clip,",
        "and all clips become one track.",
    }
    assert {(task.language, task.voice_id, task.style.duration) for task in get_tasks(app)} == {("en", "voice-1", None)}

    subtitles = importlib.import_module(MODULE).SUBTITLES
    edited = subtitles.replace("Good morning", "Good evening")
    run = run_dag(MODULE, DAG, destination=f"file://{tmp_path}/", voice_id="voice-1", subtitles=edited)
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
    assert [row["id"] for row in read_rows(f"file://{tmp_path}/out")] == ["intro"]
    assert list((tmp_path / "out").glob("subtitles.*")) == []


def test_example_recognizes_pasted_webvtt(run_dag, app, tmp_path):
    text = "WEBVTT\n\nNOTE a comment\n\n00:01.000 --> 00:02.000\nTom &amp; Ann.\n"
    run = run_dag(MODULE, DAG, destination=f"file://{tmp_path}", subtitles=text)
    assert run.state == "success"
    assert run.xcom("find_subtitles") == f"file://{tmp_path}/subtitles.vtt"
    assert list(accepted(app)) == ["Tom & Ann."]


@pytest.mark.example_dag("text_to_speech_notification")
def test_example_notification_is_an_mp3(run_dag, start_service):
    service = start_service()
    place = f"{service.destination}/notification.mp3"
    run = run_dag(MODULE, NOTIFICATION, text="Done {{ ds }}.", voice_id=service.voice_id, destination=place)
    require_success(run)
    assert run.xcom("speak") == place
    assert run.xcom("speak", "VoiceId") == service.voice_id
    with open_file(place) as file:
        info = soundfile.info(io.BytesIO(file.read()))
    assert (info.format, info.samplerate) == ("MP3", 24000)
    assert info.duration == pytest.approx(run.xcom("speak", "duration"), abs=0.2)


def test_example_notification_is_one_call_with_the_unrendered_text(run_dag, app, tmp_path):
    run = run_dag(MODULE, NOTIFICATION, text="Done {{ ds }}.", destination=f"file://{tmp_path}/notification.mp3")
    assert list(run.tasks) == ["speak"]
    assert accepted(app) == {"Done {{ ds }}.": 1}


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
