"""Run ``make demo`` with the installed package; the test's docstring is a row of ``docs/airflow-versions.md``."""

import re
import subprocess
import sys

import pytest
from airflow import __version__


@pytest.mark.airflow_standalone
@pytest.mark.xdist_group("standalone")
@pytest.mark.skipif(
    __version__.startswith("2."),
    reason="dag.test() of Airflow 2.11 fails on an asset alias that no scheduler has registered",
)
def test_demo_stores_a_clip(tmp_path):
    """`make demo` stores a clip."""
    command = [sys.executable, "-m", "dev.demo", "--destination", f"file://{tmp_path}/"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    (clip,) = tmp_path.glob("*.wav")
    assert re.search(rf"Stored at +file://{clip}", done.stdout)
    assert re.search(r"VoiceId +\S+", done.stdout)
    assert re.search(r"Duration +[0-9.]+ s", done.stdout)
