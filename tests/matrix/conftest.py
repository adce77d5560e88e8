from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dev.airflow_environment import EXAMPLE_DAGS, run_airflow
from dev.standalone import Standalone
from tests.s3_server import S3Server

DAG_ID, RUN_ID = "every_way", "matrix"
FINISHED = {"success", "failed", "skipped", "upstream_failed"}
TIMEOUT = 300
LINES = [{"id": f"line-{number}", "text": f"This is line {number}.", "voice_id": "voice-1"} for number in range(4)]


@dataclass
class EveryWay:
    """One run of the DAG ``every_way`` on a whole Airflow, which still runs."""

    standalone: Standalone
    folder: Path
    """What is stored in files."""
    s3: S3Server
    tasks: dict[str, Any]
    """State, number of tries and XComs of each task."""

    def state(self, task_id: str) -> str:
        return str(self.tasks[task_id]["state"])

    def xcom(self, task_id: str, key: str = "return_value") -> Any:
        return self.tasks[task_id]["xcom"][key]

    def log(self, task_id: str) -> str:
        files = (self.standalone.home / "logs").rglob("*.log*")
        return "\n".join(file.read_text() for file in sorted(files) if f"task_id={task_id}/" in str(file))


@pytest.fixture(scope="session")
def every_way(tmp_path_factory):
    home = tmp_path_factory.mktemp("every-way")
    folder = home / "audio"
    folder.mkdir()
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, LINES)))
    for dags in (Path(__file__).parent / "dags", EXAMPLE_DAGS):
        shutil.copytree(dags, home / "dags", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    # Airflow 2's web server asks who is there; let everybody in, as the simple auth manager does.
    (home / "webserver_config.py").write_text('AUTH_ROLE_PUBLIC = "Admin"\nWTF_CSRF_ENABLED = False\n')
    with S3Server(home / "s3") as s3:
        standalone = Standalone(
            home,
            dags=home / "dags",
            emulator=("--synthesis-time", "2", "--voice", "tone"),
            environment={f"AIRFLOW_CONN_{s3.conn_id.upper()}": s3.connection()},
        )
        with standalone:
            conf = json.dumps({"folder": str(folder), "s3": s3.root})
            _trigger(standalone, conf)
            yield EveryWay(standalone, folder, s3, _outcome(standalone))


def _trigger(standalone: Standalone, conf: str) -> None:
    deadline = time.monotonic() + 120
    while True:  # until Airflow has read the DAG
        done = run_airflow(
            standalone.environment, "dags", "trigger", DAG_ID, "--run-id", RUN_ID, "--conf", conf, check=False
        )
        if done.returncode == 0:
            return
        assert time.monotonic() < deadline, f"{done.stdout}\n{done.stderr}\n{standalone.log.read_text()[-3000:]}"
        time.sleep(1)


def _outcome(standalone: Standalone) -> dict[str, Any]:
    deadline = time.monotonic() + TIMEOUT
    while True:
        done = subprocess.run(
            [sys.executable, "-m", "tests.matrix.outcome", DAG_ID, RUN_ID],
            env=standalone.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout.rpartition("OUTCOME ")[2])
        if told and all(task["state"] in FINISHED for task in told.values()):
            return told
        if time.monotonic() > deadline:
            return told  # each test tells of its own
        time.sleep(2)
