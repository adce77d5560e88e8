"""DAGs that make a voice, speak with it and delete it, on a real Airflow with its task state store."""

from __future__ import annotations

import wave

import pytest
from airflow import __version__
from packaging.version import Version

from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.emulator.faults import AudioFault
from airflow_provider_mps.hooks.mps import MpsHook
from tests.batching import accepted
from tests.faulty_emulator import FaultyEmulator
from tests.storing import make_wav

needs_state_store = pytest.mark.skipif(
    Version(__version__) < Version("3.3"), reason="this Airflow has no task state store"
)
DESIGNS = ["voice_designed_in_worker", "voice_designed_deferred"]


@pytest.fixture
def start(start_emulator):
    """Start an emulator that records the actions, with faults of each download."""

    def start(*faults):
        app = FaultyEmulator(
            Options(
                synthesis_time=1.0, voice="tone", rate_limit=1000, audio_faults=tuple(map(AudioFault.parse, faults))
            )
        )
        start_emulator(app)
        return app

    return start


@pytest.fixture
def conf(tmp_path):
    sample = make_wav(tmp_path / "ann.wav", 1)
    return {"audio": f"file://{sample}", "name": "ann", "prompt": "A calm voice", "folder": f"file://{tmp_path}/out"}


def list_own_voices():
    return [voice for voice in MpsHook().list_voices() if voice.category != "system"]


def seconds_of(path):
    with wave.open(str(path)) as audio:
        return audio.getnframes() / audio.getframerate()


def require_voice_used_and_deleted(run, app, folder, *, has_duration=True):
    voice_id = run.xcom("make")
    assert run.state == "success"
    assert run.xcom("make", "VoiceId") == voice_id == run.xcom("delete")
    assert run.xcom("make", "AudioUrl").startswith("http://127.0.0.1")
    assert run.xcom("make", "trial_audio") == f"file://{folder}/trial.wav"
    seconds = seconds_of(folder / "trial.wav")
    assert seconds > 0
    assert run.xcom("make", "duration") == (seconds if has_duration else None)
    assert run.xcom("store", "VoiceId") == voice_id
    assert seconds_of(folder / "speech.wav") == run.xcom("store", "duration") > 0
    assert accepted(app.app)["Hello"] == 1
    assert list_own_voices() == []


def test_cloned_voice_speaks_and_is_deleted(run_dag, start, conf, tmp_path):
    app = start()
    run = run_dag("voices", "voice_cloned", **conf)
    assert set(run.tasks.values()) == {("success", 1)}
    require_voice_used_and_deleted(run, app, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("dag_id", DESIGNS)
def test_designed_voice_speaks_and_is_deleted(run_dag, start, conf, tmp_path, dag_id):
    app = start()
    run = run_dag("voices", dag_id, **conf)
    assert set(run.tasks.values()) == {("success", 1)}
    assert run.xcom("make", "TaskId").endswith(tuple(app.asked_for))
    require_voice_used_and_deleted(run, app, tmp_path / "out")


@needs_state_store
@pytest.mark.slow
@pytest.mark.parametrize(
    ("dag_id", "action"), [("voice_cloned", "CloneVoice"), *((dag_id, "DesignVoiceAsync") for dag_id in DESIGNS)]
)
def test_retry_after_failed_storage_makes_no_second_voice(run_dag, start, conf, tmp_path, no_waiting, dag_id, action):
    app = start("unavailable:5")  # as many attempts as a download without progress has
    run = run_dag("voices", dag_id, **conf)
    assert run.tasks["make"] == run.tasks["store"] == ("success", 2)
    assert run.tasks["speak"] == run.tasks["delete"] == ("success", 1)
    assert app.actions.count(action) == 1
    # Only the response of CloneVoice has the duration of a clone's trial audio, and the first attempt has received it.
    has_duration = action != "CloneVoice"
    require_voice_used_and_deleted(run, app, tmp_path / "out", has_duration=has_duration)


@pytest.mark.slow
def test_failed_setup_deletes_nothing(run_dag, start, conf):
    app = start()
    run = run_dag("voices", "voice_designed_deferred", **{**conf, "prompt": "[fail]"})
    assert {name: state for name, (state, _) in run.tasks.items()} == {
        "make": "failed",
        "speak": "upstream_failed",
        "store": "upstream_failed",
        "delete": "upstream_failed",
    }
    assert run.tasks["make"][1] == 1
    assert "DeleteVoice" not in app.actions


@pytest.mark.slow
def test_failed_use_still_deletes_voice(run_dag, start, conf, tmp_path):
    app = start()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "speech.wav").mkdir()
    run = run_dag("voices", "voice_cloned", **conf)
    assert run.tasks["store"][0] == "failed"
    assert run.tasks["delete"] == ("success", 1)
    assert run.state == "failed"
    assert app.actions.count("DeleteVoice") == 1
    assert list_own_voices() == []
