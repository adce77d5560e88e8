"""Run one batch as a task does, in a process of its own to be killed; and print its outcome."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from airflow_provider_mps.batch import journal, lease
from airflow_provider_mps.batch.lease import Holder, Lease
from tests.batching import LEASE_TIMES_SECONDS, batch, context, set_lease_times

TAKEOVER_SECONDS = 0.5
"""How long to watch the lock of an earlier process, which the test has killed for certain."""


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest")
    parser.add_argument("destination")
    parser.add_argument("--run-id", default="run-1")
    parser.add_argument("--on-unknown", default="fail")
    parser.add_argument("--lease-valid", type=float, help="seconds after a heartbeat for which the lease is certain")
    parser.add_argument("--takeover", type=float, help="seconds after which another process takes over from a dead one")
    parser.add_argument("--fill", type=int, help="bytes of a file that is put beside the destination first")
    parser.add_argument("--then-remove", type=Path, help="that file, after which the batch is run once more")
    parser.add_argument("--files-of", type=Path, help="a folder that only this process sees, whose results to print")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO)
    set_lease_times(setattr)
    if arguments.lease_valid:
        lease.VALID = arguments.lease_valid
    take_over_soon(arguments.takeover or TAKEOVER_SECONDS)
    if arguments.takeover:  # a holder must know when others may have taken over
        set_own_limit(arguments.takeover)
    journal.PATIENCE = 1.0
    if arguments.fill:
        arguments.then_remove.write_bytes(b"x" * arguments.fill)
    run(arguments)
    if arguments.then_remove:
        arguments.then_remove.unlink()
        run(arguments)


def set_own_limit(seconds: float) -> None:
    lease.DEAD = LEASE_TIMES_SECONDS["DEAD"] = seconds


def take_over_soon(seconds: float) -> None:
    """Shorten the watch over a lock's earlier holder, and only that: the own lease keeps its wide margin."""
    is_dead = Lease._is_dead

    async def is_dead_soon(self: Lease, before: Holder) -> bool:
        lease.DEAD = seconds
        try:
            return await is_dead(self, before)
        finally:
            lease.DEAD = LEASE_TIMES_SECONDS["DEAD"]

    Lease._is_dead = is_dead_soon  # type: ignore[method-assign]


def run(arguments: argparse.Namespace) -> None:
    operator = batch(arguments.manifest, arguments.destination, on_unknown=arguments.on_unknown, on_line_failure="fail")

    def on_term(*_: object) -> None:
        operator.on_kill()  # as Airflow does; it goes on with the task then

    signal.signal(signal.SIGTERM, on_term)
    outcome: dict[str, object] = {"error": None, "said": ""}
    try:
        outcome["summary"] = operator.execute(context(arguments.run_id))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the test asks for
        outcome = {"error": type(error).__name__, "said": str(error)}
    if arguments.files_of:
        outcome["files"] = sorted(file.name for file in arguments.files_of.rglob("*") if file.is_file())
        results = arguments.files_of / "results.jsonl"
        outcome["rows"] = [json.loads(row) for row in results.read_text().splitlines()] if results.exists() else []
    sys.stdout.write(f"OUTCOME {json.dumps(outcome)}\n")
