"""The DAG of docs/batches.md, as it stands there."""

import os
import re
from pathlib import Path

from dev.airflow_environment import REPOSITORY


def test_the_page_about_many_clips_has_a_dag_that_makes_them(run_dag, start_emulator, tmp_path):
    start_emulator()
    page = (REPOSITORY / "docs" / "batches.md").read_text()
    code = re.search(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[1]
    Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"], "many_clips.py").write_text(code)
    run = run_dag("many_clips", "many_clips", folder=f"file://{tmp_path}/")
    assert run.state == "success"
    assert len(list(tmp_path.glob("*.wav"))) == 2
