from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from airflow import __version__

from airflow_provider_mps.emulator.speech import speak
from dev.airflow_api import AirflowApi
from dev.airflow_environment import EXAMPLE_DAGS
from dev.known_faults import KnownFault, find_known_faults
from dev.standalone import Standalone
from tests.s3_server import S3Server
from tests.statsd import StatsdListener

DAG_ID, RUN_ID = "every_way", "matrix"
# Far more than a busy machine needs: each wait ends with the event.
TIMEOUT = 600
ENDS = {
    "broken_once": ("success", 2),
    "failed": ("failed", 1),
    "failed_deferred": ("failed", 1),
    "skipped": ("skipped", 1),
}
"""State and try number of each task that does not succeed at its first attempt."""
SUBTITLES = """\
1
00:00:01,000 --> 00:00:02,000
<i>The first cue.</i>

2
00:00:03,500 --> 00:00:05,000
The second cue,
on two lines.
"""
LINES = [{"id": f"line-{number}", "text": f"This is line {number}.", "voice_id": "voice-1"} for number in range(4)]


@dataclass
class EveryWay:
    """One run of the DAG ``every_way`` on a whole Airflow, which still runs."""

    standalone: Standalone
    folder: Path
    """The audio stored in files."""
    s3: S3Server
    statsd: StatsdListener
    """It gets the metrics of all processes."""
    api: httpx.Client
    """Of Airflow's REST API, of which v1 (Airflow 2) and v2 have the same paths; also of all else on Airflow's port."""
    tasks: dict[str, Any]
    """State, try number and XComs of each task."""

    def state(self, task_id: str) -> str:
        return str(self.tasks[task_id]["state"])

    def try_number(self, task_id: str) -> int:
        return int(self.tasks[task_id]["try_number"])

    def xcom(self, task_id: str, key: str = "return_value") -> Any:
        return self.tasks[task_id]["xcom"][key]

    def log(self, task_id: str) -> str:
        files = (self.standalone.home / "logs").rglob("*.log*")
        return "\n".join(file.read_text() for file in sorted(files) if f"task_id={task_id}/" in str(file))

    def has_triggerer_log(self, task_id: str) -> bool:
        """Whether a trigger of the task wrote a log."""
        files = (self.standalone.home / "logs").rglob("*trigger*.log")
        return any(f"task_id={task_id}/" in str(file) for file in files)

    def mps_task_id(self, task_id: str) -> str:
        """The MPS task that a sensor waited for."""
        notes = self.folder / f"{task_id}.txt"
        return notes.read_text() if notes.exists() else self.xcom("submit")

    @property
    def connection(self) -> dict[str, Any]:
        """The connection to the emulator, as the REST API takes it."""
        uri = urlsplit(self.standalone.connection_uri)
        return {
            "connection_id": "mps_default",
            "conn_type": "tencent_mps",
            "host": uri.hostname,
            "port": uri.port,
            "schema": uri.path.strip("/"),
            "login": uri.username,
            "password": uri.password,
            "extra": json.dumps(dict(parse_qsl(uri.query))),
        }


@pytest.fixture(scope="module")
def every_way(tmp_path_factory, record_testsuite_property):
    with _run_every_way(tmp_path_factory.mktemp("every-way")) as run:
        faults = _find_known_faults(run)
        if not faults:
            yield run
            return
    for fault in faults:  # counted in the table of the version matrix, and shown by pytest
        record_testsuite_property("repeated", fault.message)
        warnings.warn(f"The DAG run was repeated because Airflow lost a task: {fault.message}", stacklevel=1)
    with _run_every_way(tmp_path_factory.mktemp("every-way")) as run:
        yield run


def _find_known_faults(run: EveryWay) -> list[KnownFault]:
    """Return the faults of Airflow itself that explain every task that did not end as it should."""
    ends = {name: (task["state"], task["try_number"]) for name, task in run.tasks.items()}
    unexpected = [
        f"{DAG_ID}.{name} {RUN_ID}"
        for name, end in ends.items()
        if end != ENDS.get(name, ("success", 1)) and end[0] != "upstream_failed"
    ]
    return find_known_faults(unexpected, run.standalone.log.read_text(), __version__)


@contextmanager
def _run_every_way(home: Path) -> Iterator[EveryWay]:
    folder = home / "audio"
    folder.mkdir()
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, LINES)))
    (folder / "film.srt").write_text(SUBTITLES)
    (folder / "sample.wav").write_bytes(speak("A sample.", voice="tone"))
    for dags in (Path(__file__).parent / "dags", EXAMPLE_DAGS):
        shutil.copytree(dags, home / "dags", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    # Airflow 2's web server requires a user; let all users in, as the simple auth manager does.
    (home / "webserver_config.py").write_text('AUTH_ROLE_PUBLIC = "Admin"\nWTF_CSRF_ENABLED = False\n')
    with S3Server(home / "s3") as s3, StatsdListener() as statsd:
        standalone = Standalone(
            home,
            dags=home / "dags",
            emulator=("--synthesis-time", "2", "--voice", "tone"),
            environment={
                f"AIRFLOW_CONN_{s3.conn_id.upper()}": s3.connection(),
                **statsd.environment,
                # Also the seconds for which a task's supervisor may stay after its task, and keep one of the few slots.
                "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
                # All users may use Airflow 2's REST API, too.
                "AIRFLOW__API__AUTH_BACKENDS": "airflow.api.auth.backend.default",
            },
        )
        with standalone:
            api = _open_api(standalone.url)
            _trigger(standalone, api, {"folder": str(folder), "s3": s3.root})
            _await_end(api)
            yield EveryWay(standalone, folder, s3, statsd, api, _read_outcome(standalone))


def _open_api(url: str) -> httpx.Client:
    if __version__.startswith("2."):
        return httpx.Client(base_url=f"{url}/api/v1", timeout=TIMEOUT)
    client = AirflowApi(url).client
    client.timeout = httpx.Timeout(TIMEOUT)
    return client


def _trigger(standalone: Standalone, api: httpx.Client, conf: dict[str, str]) -> None:
    run = {"dag_run_id": RUN_ID, "conf": conf}
    if not __version__.startswith("2."):
        run["logical_date"] = None
    deadline = time.monotonic() + TIMEOUT
    while True:  # until Airflow has read the DAG
        response = api.post(f"/dags/{DAG_ID}/dagRuns", json=run)
        if response.is_success or response.status_code == httpx.codes.CONFLICT:  # the run is there
            return
        assert time.monotonic() < deadline, f"{response.text}\n{standalone.log.read_text()[-3000:]}"
        time.sleep(0.5)


def _await_end(api: httpx.Client) -> None:
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:  # after which the tests say which task is not done
        response = api.get(f"/dags/{DAG_ID}/dagRuns/{RUN_ID}")
        if response.is_success and response.json()["state"] in ("success", "failed"):
            return
        time.sleep(0.5)


def _read_outcome(standalone: Standalone) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.matrix.outcome", DAG_ID, RUN_ID],
        env=standalone.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.rpartition("OUTCOME ")[2]))
