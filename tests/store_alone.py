"""Store one audio as a task does, in a process with its own limits, and print the outcome."""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import fsspec
from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow.sdk.io import attach

from airflow_provider_mps.storage import http
from tests.storing import OLD, store_at


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mps_task_id")
    parser.add_argument("destination", help="memory:// ends with this process")
    parser.add_argument("--folder", type=Path, help="list the files of this folder, which only this process sees")
    parser.add_argument("--put-old", action="store_true", help="store an older object first")
    parser.add_argument("--largest-file", type=int, help="limit of a file in bytes")
    arguments = parser.parse_args(argv)
    attach("memory", fs=fsspec.filesystem("memory"))
    path = ObjectStoragePath(arguments.destination)
    if arguments.put_old:
        path.write_bytes(OLD)
    if arguments.largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (arguments.largest_file, arguments.largest_file))
    outcome = {"error": None, "message": ""}
    try:
        store_at(arguments.mps_task_id, arguments.destination)
    except Exception as error:  # noqa: BLE001 - reported to the test
        outcome = {"error": type(error).__name__, "message": str(error)}
    outcome["old"] = path.exists() and path.read_bytes() == OLD
    outcome["files"] = sorted(file.name for file in arguments.folder.rglob("*")) if arguments.folder else []
    sys.stdout.write(f"OUTCOME {json.dumps(outcome)}\n")


def run_dag_alone(dag_id: str, conf: dict[str, str]) -> None:
    """Run a DAG of ``dags/storing.py`` with a read timeout so long that only a signal ends a stalled download."""
    storing = importlib.import_module("storing")
    http.TIMEOUT_SECONDS = (10, 600)
    (instance,) = vars(storing)[dag_id].test(run_conf=conf).get_task_instances()
    sys.stdout.write(f"OUTCOME {instance.state} {instance.try_number}\n")
