"""The main job on a real Airflow: submit a text to the emulator, wait, store the audio, and print the result."""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import time
import wave
from pathlib import Path
from typing import Any

from dev.airflow_environment import EXAMPLE_DAGS, REPOSITORY, airflow_environment, run_airflow

DEFAULT_TEXT = "Hello from Airflow. This clip was submitted, awaited, verified and stored, without an account."
OUTPUT = REPOSITORY / "build" / "demo"


def main() -> None:
    """Run the example DAG once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", default=DEFAULT_TEXT, help="what to speak")
    parser.add_argument("--destination", default=f"file://{OUTPUT}/", help="where to store it")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mps-demo-") as folder:
        home = Path(folder)
        environment = {**airflow_environment(home), **_quiet()}
        _print_step("1/3 Making Airflow's database (SQLite)")
        run_airflow(environment, "db", "migrate")
        os.environ.update(environment)
        state, results = _run_dag(given.text, given.destination)
    if state != "success":
        sys.exit(f"The DAG run ended as {state}; the log above says why.")
    _print_table(results)


def _run_dag(text: str, destination: str) -> tuple[str, dict[str, Any]]:
    from airflow_provider_mps.emulator.app import Options  # noqa: PLC0415 - Airflow reads the environment on import
    from airflow_provider_mps.emulator.server import RunningEmulator  # noqa: PLC0415

    with RunningEmulator(Options(synthesis_time=2)) as emulator:
        _print_step(f"2/3 Started the MPS emulator on {emulator.url}")
        os.environ["AIRFLOW_CONN_MPS_DEFAULT"] = emulator.connection_uri
        sys.path.insert(0, str(EXAMPLE_DAGS))
        import text_to_speech  # noqa: PLC0415

        _print_step("3/3 Running the DAG: submit, wait, store, report")
        run = text_to_speech.text_to_speech().test(run_conf={"text": text, "destination": destination})
        store = run.get_task_instance("store")
        keys = {"path": "return_value", "VoiceId": "VoiceId", "duration": "duration"}
        return str(run.state), {name: store.xcom_pull(task_ids="store", key=key) for name, key in keys.items()}


def _print_table(results: dict[str, Any]) -> None:
    from airflow.providers.common.compat.sdk import ObjectStoragePath  # noqa: PLC0415
    from fastcrc import crc64  # noqa: PLC0415

    stored = ObjectStoragePath(results["path"])
    audio = stored.read_bytes()
    rows = {
        "Stored at": results["path"],
        "VoiceId": results["VoiceId"],
        "Duration": f"{results['duration']} s",
        "Size": f"{len(audio)} bytes",
        "CRC-64": crc64.xz(audio),
    }
    with wave.open(io.BytesIO(audio)) as speech:
        rows["Format"] = f"WAV, {speech.getframerate()} Hz, {speech.getnframes() / speech.getframerate()} s"
    print()
    for name, value in rows.items():
        print(f"  {name:<10} {value}")


def _quiet() -> dict[str, str]:
    """Log the provider's own lines, and of Airflow only errors."""
    return {
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": ",".join(
            f"airflow.task.{kind}airflow_provider_mps=INFO" for kind in ("hooks.", "operators.")
        ),
    }


def _print_step(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", flush=True)


if __name__ == "__main__":
    main()
