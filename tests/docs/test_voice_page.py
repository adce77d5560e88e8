"""Run the DAGs of docs/voice-id.md against the emulator, and hold its tables to the code."""

import inspect
import json
import os
import re
import wave
from pathlib import Path

import pytest

from airflow_provider_mps.durable.clone import GRACE_SECONDS
from airflow_provider_mps.emulator.app import Options, make_app
from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator
from airflow_provider_mps.operators.voices import CloneVoiceOperator, DeleteVoiceOperator
from airflow_provider_mps.speech.audio_sample import MAX_SAMPLE_BYTES
from airflow_provider_mps.speech.voices import MAX_TRIAL_CHARACTERS, Age, Gender, VoiceType
from tests.docs.pages import DOCS, read_blocks, read_section, read_tables
from tests.scripted_server import ScriptedServer, make_api_error

PAGE = DOCS / "voice-id.md"


def find_block(text):
    (code,) = [block for block in read_blocks(PAGE, "python") if text in block]
    return code


def run_page_dag(run_dag, dag_id, **params):
    Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"], f"{dag_id}.py").write_text(find_block(f'"{dag_id}"'))
    return run_dag(dag_id, dag_id, **params)


def write_wav(path, seconds=10):
    with wave.open(str(path), "wb") as audio:
        audio.setparams((1, 2, 8000, 0, "NONE", ""))
        audio.writeframes(bytes(2 * 8000 * seconds))


@pytest.fixture
def audio(tmp_path):
    write_wav(tmp_path / "sample.wav")
    return f"file://{tmp_path}/sample.wav"


def test_first_dag_logs_system_voices_of_the_language(run_dag, start_emulator, capfd):
    start_emulator()
    assert run_page_dag(run_dag, "list_voices").state == "success"
    output = capfd.readouterr().out
    expected = MpsHook().list_voices("system", languages=["en"])
    assert expected
    assert f"{len(expected)} voices" in output
    assert all(voice.name in output and voice.voice_id in output for voice in expected)


def test_first_dag_without_permission_fails_with_the_code(run_dag, connect, capfd):
    with ScriptedServer(make_api_error("AuthFailure.UnauthorizedOperation")) as server:
        connect(server.connection_uri())
        assert run_page_dag(run_dag, "list_voices").state == "failed"
    captured = capfd.readouterr()
    assert "AuthFailure.UnauthorizedOperation" in captured.out + captured.err


def test_clone_dag_speaks_stores_and_deletes_the_voice(run_dag, start_emulator, tmp_path, audio):
    start_emulator()
    run = run_page_dag(run_dag, "speak_as_anna", folder=f"file://{tmp_path}/")
    assert run.state == "success"
    assert {state for state, _ in run.tasks.values()} == {"success"}
    assert run.xcom("store", "VoiceId") == run.xcom("clone") == run.xcom("delete")
    assert len(list(tmp_path.glob("*.wav"))) == 2  # the sample and the clip
    assert len(list((tmp_path / "trial").iterdir())) == 1
    assert MpsHook().list_voices("clone") == []


def test_clone_dag_deletes_the_voice_even_if_speaking_fails(run_dag, start_emulator, tmp_path, audio, monkeypatch):
    app = make_app(Options(synthesis_time=0, voice="tone"))
    start_emulator(app)
    monkeypatch.setattr(TextToSpeechOperator, "pre_execute", lambda *_: 1 / 0)
    run = run_page_dag(run_dag, "speak_as_anna", folder=f"file://{tmp_path}/")
    assert run.state == "failed"
    assert run.tasks["submit"][0] == "failed"
    assert run.tasks["delete"][0] == "success"
    assert MpsHook().list_voices("clone") == []


def test_if_exists_values_do_what_the_table_says(emulator, audio):
    def clone(**options):
        return CloneVoiceOperator(task_id="clone", audio=audio, name="Anna", **options).execute({})

    table = next(read_tables(read_section(PAGE, "if_exists")))
    assert [re.match(r'`"(\w+)"`', row["Value"])[1] for row in table] == ["reuse", "fail", "create"]
    first = clone()
    assert clone() == first
    with pytest.raises(InvalidRequestError, match=re.escape(first)):
        clone(if_exists="fail")
    second = clone(if_exists="create")
    assert second != first
    for value in ("reuse", "fail"):
        with pytest.raises(InvalidRequestError) as caught:
            clone(if_exists=value)
        assert first in str(caught.value)
        assert second in str(caught.value)
    assert inspect.signature(CloneVoiceOperator.__init__).parameters["if_exists"].default == "reuse"


def test_delete_does_what_the_page_says(emulator, audio):
    def delete(**options):
        return DeleteVoiceOperator(task_id="delete", **options).execute({})

    assert delete(voice_id="") is None
    assert delete(voice_id="None") is None
    assert delete(voice_id="no-such-voice") is None
    system = MpsHook().list_voices("system")[0]
    with pytest.raises(InvalidRequestError):
        delete(voice_id=system.voice_id)
    ids = {MpsHook().clone_voice(audio, "Anna") for _ in range(2)}
    with pytest.raises(InvalidRequestError) as caught:
        delete(voice_name="Anna")
    assert all(voice_id in str(caught.value) for voice_id in ids)
    assert {voice.voice_id for voice in MpsHook().list_voices("clone")} == ids


def test_filter_table_has_the_arguments_and_values_of_the_hook():
    table = next(read_tables(read_section(PAGE, "Find a voice by language, gender or name")))
    rows = {row["Argument"].strip("`"): row["Meaning"] for row in table}
    assert list(rows) == [name for name in inspect.signature(MpsHook.list_voices).parameters if name != "self"]
    for name, choices in {"voice_type": VoiceType, "gender": Gender, "age": Age}.items():
        assert set(re.findall(r"`(\w+)`", rows[name])) == set(choices)


def test_page_states_the_limits_of_the_code():
    text = " ".join(PAGE.read_text().split())
    assert f"At most {MAX_SAMPLE_BYTES / 2**20:g} MiB" in text
    assert f"up to {MAX_TRIAL_CHARACTERS} characters" in text
    limits = {row["Limit"]: row["Value"] for row in next(read_tables(read_section(PAGE, "Which limits are there?")))}
    assert limits["A sample in the request"] == f"{MAX_SAMPLE_BYTES / 2**20:g} MiB."
    assert f"until {GRACE_SECONDS:g} seconds after the request" in text
    assert limits["Trial text"] == f"{MAX_TRIAL_CHARACTERS} characters."


def test_policy_has_every_voice_action_of_the_code():
    (policy,) = map(json.loads, read_blocks(PAGE, "json"))
    source = (DOCS.parent / "airflow_provider_mps/api/voice_actions.py").read_text()
    actions = {f"mps:{action}" for action in re.findall(r'action="(\w+)"', source)}
    assert set(policy["statement"][0]["action"]) == actions
    table = next(read_tables(read_section(PAGE, "Which permissions does this need?")))
    assert {action for row in table for action in re.findall(r"mps:\w+", row["Actions"])} == actions
