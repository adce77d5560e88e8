"""The example DAG as its users run it: submit, wait, store, tell."""

import wave

import pytest


def test_the_example_stores_audio_whose_length_is_the_pushed_duration(run_dag, start_emulator, tmp_path, capfd):
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


def test_a_failed_synthesis_fails_the_run_and_nothing_is_stored(run_dag, start_emulator, tmp_path):
    start_emulator(synthesis_time=0)
    run = run_dag("text_to_speech", "text_to_speech", text="[fail]", destination=f"file://{tmp_path}/")
    assert run.state == "failed"
    assert {name: state for name, (state, _) in run.tasks.items()} == {
        "submit": "success",
        "wait": "failed",
        "store": "upstream_failed",
        "tell": "upstream_failed",
    }
    assert list(tmp_path.iterdir()) == []


def test_the_trigger_form_refuses_an_empty_text(run_dag):
    from airflow.providers.common.compat.sdk import ParamValidationError

    with pytest.raises(ParamValidationError):
        run_dag("text_to_speech", "text_to_speech", text="")
