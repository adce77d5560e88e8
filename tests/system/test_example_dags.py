"""
Run the example DAGs as users do.

Tests with ``start_service`` also run against an account, so nothing in them depends on the emulator.
"""

import importlib
import json
import re
import wave

import pytest

from airflow_provider_mps.emulator.app import Options, make_app
from airflow_provider_mps.hooks.mps import MpsHook
from dev.airflow_environment import EXAMPLE_DAGS, REPOSITORY
from tests.batching import accepted
from tests.examples import EXAMPLES
from tests.system.results import list_clips, read_duration, require_success

pytestmark = pytest.mark.xdist_group("dags of integration")  # the worker that runs DAGs anyway


def test_every_example_dag_has_a_system_test():
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(EXAMPLE_DAGS)
    assert bag.import_errors == {}
    assert sorted(bag.dag_ids) == sorted(dag_id for _, dag_id in EXAMPLES)
    marker = re.compile(r"^@pytest\.mark\.example_dag\(\"(\w+)\"\)$", re.MULTILINE)
    sources = [file.read_text() for file in (REPOSITORY / "tests").rglob("test_*.py")]
    tested = [dag_id for source in sources for dag_id in marker.findall(source)]
    assert set(tested) == set(bag.dag_ids)


@pytest.mark.example_dag("text_to_speech")
def test_example_stores_audio_of_pushed_duration(run_dag, start_service, capfd):
    service = start_service(synthesis_time=1)
    clip = f"{service.destination}/clip.wav"
    run = run_dag(
        "text_to_speech", "text_to_speech", text="Hello {{ there }}", voice_id=service.voice_id, destination=clip
    )
    require_success(run)
    assert run.xcom("store") == clip
    assert run.xcom("store", "VoiceId") == service.voice_id
    assert read_duration(clip) == run.xcom("store", "duration") > 0
    assert f"{clip} is " in capfd.readouterr().out


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
@pytest.mark.example_dag("text_to_speech_decorated")
def test_example_decorated_stores_the_report_of_its_day(run_dag, start_service):
    service = start_service()
    conf = {"voice_id": service.voice_id, "day": "2026-11-28", "destination": f"{service.destination}/"}
    run = run_dag("text_to_speech_decorated", "text_to_speech_decorated", **conf)
    require_success(run)
    assert run.xcom("store") == f"{service.destination}/2026-11-28.wav"
    assert read_duration(run.xcom("store")) > 0


@pytest.mark.slow
@pytest.mark.example_dag("text_to_speech_batch")
def test_example_batch_checks_limit_then_stores_every_line(run_dag, start_service):
    service = start_service(synthesis_time=0.5)
    many = importlib.import_module("text_to_speech_many")
    conf = {"destination": f"{service.destination}/clips/", "voice_id": service.voice_id}
    run = run_dag("text_to_speech_many", "text_to_speech_batch", **conf)
    require_success(run)
    assert (run.xcom("speak")["stored"], run.xcom("speak")["characters"]) == (5, 5 * 21)
    assert len(list_clips(service.destination)) == 5
    assert run.xcom("find_manifest") == many.SAMPLE

    conf["destination"] = f"{service.destination}/clips/more/"
    over_limit = run_dag("text_to_speech_many", "text_to_speech_batch", **conf, max_characters=100)
    assert over_limit.tasks["speak"] == ("failed", 1)  # not retried
    assert len(list_clips(service.destination)) == 5


@pytest.mark.slow
@pytest.mark.example_dag("text_to_speech_mapped")
def test_example_mapped_stores_every_line(run_dag, start_service):
    service = start_service()
    conf = {"destination": service.destination, "voice_id": service.voice_id}
    run = run_dag("text_to_speech_many", "text_to_speech_mapped", **conf)
    require_success(run)
    assert len(list_clips(service.destination)) == 5


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


@pytest.mark.example_dag("text_to_speech_voices")
def test_example_voices_logs_a_table_of_matching_voices(run_dag, start_service, capfd):
    start_service()
    run = run_dag("text_to_speech_voices", "text_to_speech_voices", language="en", gender="female")
    require_success(run)
    voices = MpsHook().list_voices(languages=["en"], gender="female")
    assert run.xcom("list_voices") == [voice.voice_id for voice in voices]
    output = capfd.readouterr().out
    for voice in voices:
        row = rf"\| {re.escape(voice.name)} +\| {re.escape(voice.voice_id)} +\| {voice.category} +\| female"
        assert re.search(row, output)


def test_example_voices_logs_no_url_of_an_own_voice(run_dag, start_emulator, capfd):
    start_emulator()
    hook = MpsHook()
    own = hook.clone_voice(b"RIFF" + bytes(4) + b"WAVE" + bytes(100), "My voice", languages=["en"], trial_text="Hello.")
    everything = run_dag("text_to_speech_voices", "text_to_speech_voices", language="", name="")
    assert set(everything.xcom("list_voices")) == {voice.voice_id for voice in hook.list_voices()} > {own}
    (trial,) = [voice.audio_url for voice in hook.list_voices("clone")]
    assert trial
    output = capfd.readouterr().out
    assert own in output
    assert trial.partition("?")[0] not in output

    nothing = run_dag("text_to_speech_voices", "text_to_speech_voices", name="no such voice")
    assert (nothing.state, nothing.xcom("list_voices")) == ("success", [])
    assert "0 voices" in capfd.readouterr().out


@pytest.mark.parametrize("conf", [{"voice_type": "other"}, {"gender": "famale"}, {"age": "old"}])
def test_example_voices_form_rejects_invalid_values(run_dag, conf):
    from airflow.providers.common.compat.sdk import ParamValidationError

    with pytest.raises(ParamValidationError):
        run_dag("text_to_speech_voices", "text_to_speech_voices", **conf)


@pytest.mark.example_dag("text_to_speech_cloned_voice")
def test_example_clone_speaks_stores_and_deletes_the_voice(run_dag, start_service):
    service = start_service(needs=("MPS_SYSTEM_TEST_SAMPLE",))
    before = {voice.voice_id for voice in MpsHook().list_voices("clone")}
    conf = {"sample": service.sample} if service.sample else {}
    run = run_dag("text_to_speech_voices", "text_to_speech_cloned_voice", destination=service.destination, **conf)
    require_success(run)
    assert run.xcom("store", "VoiceId") == run.xcom("clone") == run.xcom("delete")
    (trial,) = list_clips(f"{service.destination}/trial")
    assert str(run.xcom("clone", "trial_audio")) == str(trial)
    assert {str(clip) for clip in list_clips(service.destination)} == {str(trial), run.xcom("store")}
    assert {voice.voice_id for voice in MpsHook().list_voices("clone")} == before


def test_example_clone_keeps_a_voice_of_the_same_name(run_dag, start_emulator, tmp_path):
    start_emulator(synthesis_time=0)
    mine = MpsHook().clone_voice(b"RIFF" + bytes(4) + b"WAVE" + bytes(100), "Airflow example")
    run = run_dag("text_to_speech_voices", "text_to_speech_cloned_voice", destination=f"file://{tmp_path}")
    require_success(run)
    sample = importlib.import_module("text_to_speech_voices").SAMPLE
    assert read_duration(sample) == 10
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


@pytest.mark.parametrize(("module", "name"), EXAMPLES)
def test_example_forms_warn_about_the_temporary_folder(module, name):
    dag = getattr(importlib.import_module(module), name)()
    for field in dag.params:
        param = dag.params.get_param(field)
        if "file://" in str(param.value):
            assert "temporary folder" in param.description
            assert "only if all tasks run on one machine" in param.description


@pytest.mark.parametrize(("module", "name"), EXAMPLES)
def test_example_dags_are_documented(module, name):
    dag = getattr(importlib.import_module(module), name)()
    assert dag.doc_md
    assert "mps" in dag.tags
    assert all(task.doc_md for task in dag.tasks)
    for field in dag.params:
        param = dag.params.get_param(field)
        assert param.schema["title"]
        assert param.description
