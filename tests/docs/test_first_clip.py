"""Run the DAGs of the README and of the tutorial."""

import os
from pathlib import Path

import pytest

from dev.airflow_environment import REPOSITORY
from tests.docs.pages import DOCS, read_blocks


@pytest.mark.parametrize(
    ("page", "dag_id"), [(REPOSITORY / "README.md", "say_hello"), (DOCS / "first-clip.md", "first_clip")]
)
def test_first_dag_stores_a_clip(run_dag, emulator, tmp_path, page, dag_id):
    (code,) = [block for block in read_blocks(page, "python") if f'"{dag_id}"' in block]
    Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"], f"{dag_id}.py").write_text(code)
    run = run_dag(dag_id, dag_id, destination=f"file://{tmp_path}/")
    assert run.state == "success"
    assert run.xcom("store", "VoiceId") == "your-voice-id"
    assert run.xcom("store", "duration") > 0
    assert len(list(tmp_path.glob("*.wav"))) == 1
