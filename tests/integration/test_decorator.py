"""DAGs with ``@task.text_to_speech`` on a real Airflow and the emulator."""

from collections import Counter

import pytest

from airflow_provider_mps.emulator.app import Options, make_app
from tests.batching import accepted


@pytest.fixture
def app(start_emulator):
    app = make_app(Options(synthesis_time=0.3, voice="tone", rate_limit=100))
    start_emulator(app)
    return app


def test_decorated_functions_submit_each_text_once(run_dag, app, capfd):
    run = run_dag("decorated", "decorated")
    assert run.state == "success", run.tasks
    assert accepted(app) == Counter(
        [
            "Hello, 3 rows.",
            "In a dict: 3.",
            "Deferred 3.",
            "Mapped {{ conn.mps_default.password }}.",
            "Mapped two.",
            "Expanded.",
        ]
    )
    tasks = {task.text: task for task in app.state.tasks._tasks.values()}
    in_dict = tasks["In a dict: 3."]
    assert (in_dict.voice_id, in_dict.style.sample_rate) == ("voice-2", 8000)
    for name, text in (("text", "Hello, 3 rows."), ("arguments", "In a dict: 3."), ("deferred", "Deferred 3.")):
        assert run.xcom(name) == run.xcom(name, "TaskId") == tasks[text].task_id
    # The end of a deferral does not call the function again.
    assert capfd.readouterr().out.count("The function was called") == 1


def test_decorated_failures_submit_nothing_twice(run_dag, app):
    run = run_dag("decorated", "decorated_failures")
    assert run.tasks == {
        "returns_nothing": ("failed", 1),
        "fails_once": ("success", 2),
        "fails_at_mps": ("failed", 1),
        "fails_after_submit": ("success", 2),
        "skips": ("skipped", 1),
    }
    assert accepted(app) == Counter(
        ["After a retry.", "[fail] MPS makes no audio of it.", "Submitted by the first attempt."]
    )


@pytest.mark.slow
def test_example_speaks_the_report_of_its_day(run_dag, app, tmp_path):
    conf = {"voice_id": "voice-1", "day": "2026-11-28", "destination": f"file://{tmp_path}/"}
    run = run_dag("text_to_speech_decorated", "text_to_speech_decorated", **conf)
    assert run.state == "success"
    (spoken,) = app.state.tasks._tasks.values()
    assert spoken.text.startswith("Good morning. Last night, we loaded 1204 orders, 88 invoices. Attention: ")
    assert (spoken.voice_id, spoken.language, spoken.style.pitch) == ("voice-1", "en", -2)
    assert run.xcom("store") == f"file://{tmp_path}/2026-11-28.wav"
    assert (tmp_path / "2026-11-28.wav").read_bytes()[:4] == b"RIFF"
