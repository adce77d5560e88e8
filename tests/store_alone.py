"""Store one audio as a task does, in a process that has limits of its own; and print the outcome."""

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

from airflow_provider_mps.transfer import link
from tests.storing import OLD, store_at


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mps_task_id")
    parser.add_argument("destination", help="memory:// is gone with this program")
    parser.add_argument("--folder", type=Path, help="one that only this process sees, whose files to print")
    parser.add_argument("--put-old", action="store_true", help="store an older object first")
    parser.add_argument("--largest-file", type=int, help="bytes that a file of this process may have")
    arguments = parser.parse_args(argv)
    attach("memory", fs=fsspec.filesystem("memory"))
    path = ObjectStoragePath(arguments.destination)
    if arguments.put_old:
        path.write_bytes(OLD)
    if arguments.largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (arguments.largest_file, arguments.largest_file))
    outcome = {"error": None, "said": ""}
    try:
        store_at(arguments.mps_task_id, arguments.destination)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the test asks for
        outcome = {"error": type(error).__name__, "said": str(error)}
    outcome["old"] = path.exists() and path.read_bytes() == OLD
    outcome["files"] = sorted(file.name for file in arguments.folder.rglob("*")) if arguments.folder else []
    sys.stdout.write(f"OUTCOME {json.dumps(outcome)}\n")


def run_dag_alone(dag_id: str, conf: dict[str, str]) -> None:
    """Run a DAG of ``dags/storing.py``, which waits so long for a server that stalls that only a signal ends it."""
    storing = importlib.import_module("storing")
    link.TIMEOUT = (10, 600)
    (instance,) = vars(storing)[dag_id].test(run_conf=conf).get_task_instances()
    sys.stdout.write(f"OUTCOME {instance.state} {instance.try_number}\n")
