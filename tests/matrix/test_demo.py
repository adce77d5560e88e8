"""The main job, as ``make demo`` does it, with the package that is installed here."""

import re
import subprocess
import sys

import pytest
from airflow import __version__


@pytest.mark.airflow_standalone
@pytest.mark.xdist_group("standalone")
@pytest.mark.skipif(
    __version__.startswith("2."), reason="dag.test() of Airflow 2 knows no alias that no scheduler has seen"
)
def test_the_demo_stores_a_clip(tmp_path):
    command = [sys.executable, "-m", "dev.demo", "--destination", f"file://{tmp_path}/"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    (clip,) = tmp_path.glob("*.wav")
    assert re.search(rf"Stored at +file://{clip}", done.stdout)
    assert re.search(r"VoiceId +\S+", done.stdout)
    assert re.search(r"Duration +[0-9.]+ s", done.stdout)
