"""Run the example DAGs as users do."""

import importlib
import json
import re
import wave

import pytest

from airflow_provider_mps.emulator.app import Options, make_app
from airflow_provider_mps.hooks.mps import MpsHook
from tests.batching import accepted

DAGS = [
    ("text_to_speech", "text_to_speech"),
    ("text_to_speech_decorated", "text_to_speech_decorated"),
    ("text_to_speech_published", "text_to_speech_published"),
    ("text_to_speech_many", "text_to_speech_batch"),
    ("text_to_speech_many", "text_to_speech_mapped"),
    ("text_to_speech_subtitles", "text_to_speech_notification"),
    ("text_to_speech_subtitles", "text_to_speech_subtitles"),
    ("text_to_speech_voices", "text_to_speech_voices"),
    ("text_to_speech_voices", "text_to_speech_cloned_voice"),
]
"""Module and name of each example."""


def test_example_stores_audio_of_pushed_duration(run_dag, start_emulator, tmp_path, capfd):
    start_emulator(synthesis_time=1, voice="auto")
    run = run_dag(
        "text_to_speech",
        "text_to_speech",
        text="Hello {{ there }}",
        voice_id="voice-1",
        destination=f"file://{tmp_path}/clip.wav",
    )
    assert run.state == "success"
    assert run.xcom("store") == f"file://{tmp_path}/clip.wav"
    assert run.xcom("store", "VoiceId") == "voice-1"
    with wave.open(str(tmp_path / "clip.wav")) as audio:
        assert audio.getnframes() / audio.getframerate() == run.xcom("store", "duration")
    assert f"file://{tmp_path}/clip.wav is " in capfd.readouterr().out


def test_example_failed_synthesis_notifies_and_stores_nothing(run_dag, start_emulator, tmp_path, capfd):
    start_emulator(synthesis_time=0)
    run = run_dag("text_to_speech", "text_to_speech", text="[fail]", destination=f"file://{tmp_path}/")
    assert run.state == "failed"
    assert {name: state for name, (state, _) in run.tasks.items()} == {
        "submit": "success",
        "wait": "failed",
        "store": "upstream_failed",
        "report": "upstream_failed",
    }
    assert list(tmp_path.iterdir()) == []
    assert re.search(
        r"Task wait of manual\S+ failed: MPS text-to-speech task \S+ failed: .+ \(RequestId .+\)\. Fix the text",
        capfd.readouterr().out,
    )


@pytest.mark.parametrize(
    "conf",
    [
        {"text": ""},
        {"text": "x" * 100_001},
        {"voice_id": ""},
        {"text_lang": "Klingon"},
        {"sample_rate": 12345},
        {"pitch": 13},
        {"pitch": "high"},
        {"destination": ""},
    ],
)
def test_example_trigger_form_rejects_invalid_values(run_dag, conf):
    from airflow.providers.common.compat.sdk import ParamValidationError

    with pytest.raises(ParamValidationError):
        run_dag("text_to_speech", "text_to_speech", **conf)


def test_example_form_sets_language_sample_rate_and_pitch(run_dag, start_emulator, tmp_path):
    app = make_app(Options(synthesis_time=0, voice="tone"))
    start_emulator(app)
    run = run_dag(
        "text_to_speech", "text_to_speech", sample_rate=8000, pitch=-3, destination=f"file://{tmp_path}/a.wav"
    )
    assert run.state == "success"
    (task,) = app.state.tasks._tasks.values()
    assert (task.language, task.style.sample_rate, task.style.pitch) == ("en", 8000, -3)
    with wave.open(str(tmp_path / "a.wav")) as audio:
        assert audio.getframerate() == 8000


@pytest.mark.slow
def test_example_batch_checks_limit_then_stores_every_line(run_dag, start_emulator, tmp_path):
    start_emulator(synthesis_time=0.5)
    many = importlib.import_module("text_to_speech_many")
    clips = f"file://{tmp_path}/clips/"
    run = run_dag("text_to_speech_many", "text_to_speech_batch", destination=clips)
    assert run.state == "success"
    estimate = run.xcom("estimate")
    assert (estimate["to_submit"], estimate["characters"], estimate["invalid"]) == (5, 5 * 21, 0)
    assert run.xcom("speak")["stored"] == 5
    assert len(list(tmp_path.rglob("*.wav"))) == 5
    assert run.xcom("find_manifest") == many.SAMPLE

    over_limit = run_dag("text_to_speech_many", "text_to_speech_batch", destination=clips + "more/", max_characters=100)
    assert over_limit.tasks["speak"][0] == "skipped"
    assert len(list(tmp_path.rglob("*.wav"))) == 5


@pytest.mark.slow
def test_example_mapped_stores_every_line(run_dag, start_emulator, tmp_path):
    start_emulator(synthesis_time=0)
    run = run_dag("text_to_speech_many", "text_to_speech_mapped", destination=f"file://{tmp_path}")
    assert run.state == "success"
    assert len(list(tmp_path.glob("*.wav"))) == 5


@pytest.mark.slow
def test_example_mapped_splits_lines_as_json(run_dag, start_emulator, tmp_path):
    start_emulator(synthesis_time=0)
    lines = [{"id": "a", "text": "One\u2028line.", "sample_rate": 8000}, {"id": "b", "text": "Two.", "voice_id": "v"}]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines))
    clips = tmp_path / "clips"
    run = run_dag(
        "text_to_speech_many", "text_to_speech_mapped", manifest=f"file://{manifest}", destination=f"file://{clips}"
    )
    assert run.state == "success"
    rates = []
    for clip in clips.glob("*.wav"):
        with wave.open(str(clip)) as audio:
            rates.append(audio.getframerate())
    assert sorted(rates) == [8000, 16000]


@pytest.mark.slow
def test_example_mapped_does_not_render_texts(run_dag, start_emulator, tmp_path):
    app = make_app(Options(synthesis_time=0, voice="tone"))
    start_emulator(app)
    texts = ["My key is {{ conn.mps_default.password }}.", "{% raw %}", "50 {# not a comment #}"]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps({"id": text[:2], "text": text}) + "\n" for text in texts))
    paths = {"manifest": f"file://{manifest}", "destination": f"file://{tmp_path}/clips"}
    run = run_dag("text_to_speech_many", "text_to_speech_mapped", **paths)
    assert run.state == "success"
    assert set(accepted(app)) == set(texts)


def test_example_voices_logs_a_table_of_matching_voices(run_dag, start_emulator, capfd):
    start_emulator()
    hook = MpsHook()
    own = hook.clone_voice(b"RIFF" + bytes(4) + b"WAVE" + bytes(100), "My voice", languages=["en"], trial_text="Hello.")
    run = run_dag("text_to_speech_voices", "text_to_speech_voices", language="en", gender="female")
    assert run.state == "success"
    voices = hook.list_voices(languages=["en"], gender="female")
    assert run.xcom("list_voices") == [voice.voice_id for voice in voices]
    output = capfd.readouterr().out
    for voice in voices:
        assert re.search(rf"\| {re.escape(voice.name)} +\| {re.escape(voice.voice_id)} +\| system +\| female", output)

    everything = run_dag("text_to_speech_voices", "text_to_speech_voices", language="", name="")
    assert set(everything.xcom("list_voices")) == {voice.voice_id for voice in hook.list_voices()} > {own}
    (trial,) = [voice.audio_url for voice in hook.list_voices("clone")]
    assert trial
    assert trial.partition("?")[0] not in capfd.readouterr().out

    nothing = run_dag("text_to_speech_voices", "text_to_speech_voices", name="no such voice")
    assert (nothing.state, nothing.xcom("list_voices")) == ("success", [])
    assert "0 voices" in capfd.readouterr().out


@pytest.mark.parametrize("conf", [{"voice_type": "other"}, {"gender": "famale"}, {"age": "old"}])
def test_example_voices_form_rejects_invalid_values(run_dag, conf):
    from airflow.providers.common.compat.sdk import ParamValidationError

    with pytest.raises(ParamValidationError):
        run_dag("text_to_speech_voices", "text_to_speech_voices", **conf)


def test_example_clone_speaks_stores_and_deletes_the_voice(run_dag, start_emulator, tmp_path):
    start_emulator(synthesis_time=0)
    mine = MpsHook().clone_voice(b"RIFF" + bytes(4) + b"WAVE" + bytes(100), "Airflow example")
    run = run_dag("text_to_speech_voices", "text_to_speech_cloned_voice", destination=f"file://{tmp_path}")
    assert run.state == "success"
    assert {state for state, _ in run.tasks.values()} == {"success"}
    assert run.xcom("store", "VoiceId") == run.xcom("clone") == run.xcom("delete")
    assert len(list(tmp_path.glob("*.wav"))) == 1
    (trial,) = (tmp_path / "trial").iterdir()
    assert run.xcom("clone", "trial_audio") == f"file://{trial}"
    sample = importlib.import_module("text_to_speech_voices").SAMPLE
    with wave.open(sample.removeprefix("file://")) as audio:
        assert audio.getnframes() / audio.getframerate() == 10
    assert [voice.voice_id for voice in MpsHook().list_voices("clone")] == [mine]


@pytest.mark.slow
def test_example_clone_deletes_the_voice_if_speaking_fails(run_dag, start_emulator, tmp_path):
    start_emulator(synthesis_time=0)
    conf = {"text": "[fail]", "destination": f"file://{tmp_path}"}
    run = run_dag("text_to_speech_voices", "text_to_speech_cloned_voice", **conf)
    assert run.state == "failed"
    assert {name: state for name, (state, _) in run.tasks.items()} == {
        "find_sample": "success",
        "clone": "success",
        "submit": "success",
        "wait": "failed",
        "store": "upstream_failed",
        "delete": "success",
    }
    assert MpsHook().list_voices("clone") == []


@pytest.mark.parametrize(("module", "name"), DAGS)
def test_example_forms_warn_about_the_temporary_folder(module, name):
    dag = getattr(importlib.import_module(module), name)()
    for field in dag.params:
        param = dag.params.get_param(field)
        if "file://" in str(param.value):
            assert "temporary folder" in param.description
            assert "only if all tasks run on one machine" in param.description


@pytest.mark.parametrize(("module", "name"), DAGS)
def test_example_dags_are_documented(module, name):
    dag = getattr(importlib.import_module(module), name)()
    assert dag.doc_md
    assert "mps" in dag.tags
    assert all(task.doc_md for task in dag.tasks)
    for field in dag.params:
        param = dag.params.get_param(field)
        assert param.schema["title"]
        assert param.description
