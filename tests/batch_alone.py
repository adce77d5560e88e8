"""A program that runs one batch as a task does, to be killed; and prints what came of it."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from pathlib import Path

from airflow_provider_mps.batch import journal, lease
from tests.batching import QUICK_LEASE, batch, context


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest")
    parser.add_argument("destination")
    parser.add_argument("--run-id", default="run-1")
    parser.add_argument("--on-unknown", default="fail")
    parser.add_argument("--fill", type=int, help="bytes of a file that is put beside the destination first")
    parser.add_argument("--then-remove", type=Path, help="that file, after which the batch is run once more")
    parser.add_argument("--files-of", type=Path, help="a folder whose results to print, for nobody else may see them")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    for name, seconds in QUICK_LEASE.items():
        setattr(lease, name, seconds)
    journal.PATIENCE = 1.0
    if arguments.fill:
        arguments.then_remove.write_bytes(b"x" * arguments.fill)
    run(arguments)
    if arguments.then_remove:
        arguments.then_remove.unlink()
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    operator = batch(arguments.manifest, arguments.destination, on_unknown=arguments.on_unknown, on_line_failure="fail")

    def on_term(*_: object) -> None:
        operator.on_kill()  # as Airflow does; it goes on with the task then

    signal.signal(signal.SIGTERM, on_term)
    outcome: dict[str, object] = {"error": None, "said": ""}
    try:
        outcome["told"] = operator.execute(context(arguments.run_id))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the test asks for
        outcome = {"error": type(error).__name__, "said": str(error)}
    if arguments.files_of:
        outcome["files"] = sorted(file.name for file in arguments.files_of.rglob("*") if file.is_file())
        results = arguments.files_of / "results.jsonl"
        outcome["rows"] = [json.loads(row) for row in results.read_text().splitlines()] if results.exists() else []
    sys.stdout.write(f"OUTCOME {json.dumps(outcome)}\n")


if __name__ == "__main__":
    main()
