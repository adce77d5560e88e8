"""Run the DAGs of docs/batches.md."""

import json
import os
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, read_blocks

BLOCKS = read_blocks(DOCS / "batches.md", "python")


@pytest.mark.parametrize("dag_id", ["audio_book", "many_clips"])
def test_docs_batches_dag_stores_every_clip(run_dag, start_emulator, tmp_path, dag_id):
    start_emulator()
    (code,) = [block for block in BLOCKS if f'"{dag_id}"' in block]
    lines = [{"id": f"{number}", "text": "Hello.", "voice_id": "v"} for number in range(2)]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"], f"{dag_id}.py").write_text(code)
    run = run_dag(dag_id, dag_id, folder=f"file://{tmp_path}/")
    assert run.state == "success"
    assert len(list(tmp_path.rglob("*.wav"))) == 2
