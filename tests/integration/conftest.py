from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.emulator.server import RunningEmulator
from airflow_provider_mps.hooks.mps import MpsHook
from dev.airflow_api import AirflowApi
from dev.airflow_environment import EXAMPLE_DAGS
from dev.standalone import Standalone
from tests.faulty_emulator import FaultyEmulator
from tests.s3_server import S3Server
from tests.statsd import StatsdListener


@pytest.fixture
def s3(tmp_path, monkeypatch):
    """A real S3 server with a bucket, and an Airflow connection to it."""
    with S3Server(tmp_path / "s3") as server:
        monkeypatch.setenv(f"AIRFLOW_CONN_{server.conn_id.upper()}", server.connection())
        yield server


@dataclass
class RunningTriggerer:
    """A whole Airflow whose triggerer waits, its emulator, and a second one whose tasks last for ever."""

    standalone: Standalone
    api: AirflowApi
    slow: FaultyEmulator
    emulators: dict[str, str]
    """The connection to each."""
    statsd: StatsdListener
    """It gets the metrics of all processes."""

    def submit(self, text: str, voice_id: str) -> str:
        return self._submit("mps_default", text, voice_id)

    def submit_slow(self, text: str, voice_id: str) -> str:
        return self._submit("mps_slow", text, voice_id)

    def finish_slow_tasks(self) -> None:
        self.slow.finish_all_tasks()

    def _submit(self, mps_conn_id: str, text: str, voice_id: str) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(f"AIRFLOW_CONN_{mps_conn_id.upper()}", self.emulators[mps_conn_id])
            return MpsHook(mps_conn_id).submit_text_to_speech(text, voice_id)


@pytest.fixture(scope="session")
def triggerer(tmp_path_factory):
    """One Airflow for all tests that need a real triggerer: it takes half a minute to start."""
    options = Options(synthesis_time=600, rate_limit=100, voice="tone", secret_id="slow-id", secret_key="slow-key")
    slow = FaultyEmulator(options)
    with RunningEmulator(options, slow) as other, StatsdListener() as statsd:
        environment = {
            "AIRFLOW_CONN_MPS_SLOW": other.connection_uri,
            "AIRFLOW_CONN_MPS_COUNTED": other.connection_uri,
            **statsd.environment,
            # So that another triggerer takes over soon from one that was killed.
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
        }
        home = tmp_path_factory.mktemp("triggerer")
        for folder in (EXAMPLE_DAGS, Path(__file__).parent / "dags"):
            shutil.copytree(folder, home / "dags", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        with Standalone(
            home,
            dags=home / "dags",
            emulator=("--synthesis-time", "2", "--voice", "tone", "--rate-limit", "100"),
            environment=environment,
        ) as standalone:
            emulators = {"mps_default": standalone.connection_uri, "mps_slow": other.connection_uri}
            yield RunningTriggerer(standalone, AirflowApi(standalone.url), slow, emulators, statsd)
