"""Run one batch as its task does, in a separate process that a test can kill; and print its outcome."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from airflow_provider_mps.batch import group_commit, lease
from airflow_provider_mps.batch.lease import Lease
from airflow_provider_mps.batch.lock_holder import LockHolder
from tests.batching import LEASE_TIMES_SECONDS, batch, context, set_lease_times

TAKEOVER_SECONDS = 0.5
"""How long the lock of an earlier process is watched, which the test has certainly killed."""


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest")
    parser.add_argument("destination")
    parser.add_argument("--run-id", default="run-1")
    parser.add_argument("--on-unknown", default="fail")
    parser.add_argument("--max-total-characters", type=int)
    parser.add_argument("--lease-valid", type=float, help="seconds after a heartbeat for which the lease is certain")
    parser.add_argument("--takeover", type=float, help="seconds without a heartbeat after which a lock is taken over")
    parser.add_argument("--fill", type=int, help="bytes of a filler file that is written first")
    parser.add_argument("--then-remove", type=Path, help="the filler file; it is removed before a second run")
    parser.add_argument("--files-of", type=Path, help="a folder that only this process sees, whose results to print")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO)
    set_lease_times(setattr)
    if arguments.lease_valid:
        lease.LEASE_VALIDITY_SECONDS = arguments.lease_valid
    shorten_takeover(arguments.takeover or TAKEOVER_SECONDS)
    if arguments.takeover:  # a holder must know when others may have taken over
        lease.LEASE_EXPIRY_SECONDS = LEASE_TIMES_SECONDS["LEASE_EXPIRY_SECONDS"] = arguments.takeover
    group_commit.OUTAGE_TIMEOUT_SECONDS = 1.0
    if arguments.fill:
        arguments.then_remove.write_bytes(b"x" * arguments.fill)
    run(arguments)
    if arguments.then_remove:
        arguments.then_remove.unlink()
        run(arguments)


def shorten_takeover(seconds: float) -> None:
    """Shorten the expiry of an earlier holder's lock only; this process's own lease keeps its wide margin."""
    wait_until_available = Lease._wait_until_available

    async def wait_briefly(self: Lease, before: LockHolder) -> bool:
        lease.LEASE_EXPIRY_SECONDS = seconds
        try:
            return await wait_until_available(self, before)
        finally:
            lease.LEASE_EXPIRY_SECONDS = LEASE_TIMES_SECONDS["LEASE_EXPIRY_SECONDS"]

    Lease._wait_until_available = wait_briefly  # type: ignore[method-assign]


def run(arguments: argparse.Namespace) -> None:
    operator = batch(
        arguments.manifest,
        arguments.destination,
        on_unknown=arguments.on_unknown,
        on_line_failure="fail",
        max_total_characters=arguments.max_total_characters,
    )

    def on_term(*_: object) -> None:
        operator.on_kill()  # as Airflow does; the task continues afterwards

    signal.signal(signal.SIGTERM, on_term)
    outcome: dict[str, object] = {"error": None, "message": ""}
    try:
        outcome["summary"] = operator.execute(context(arguments.run_id))
    except Exception as error:  # noqa: BLE001 - the test checks which error it is
        outcome = {"error": type(error).__name__, "message": str(error)}
    if arguments.files_of:
        outcome["files"] = sorted(file.name for file in arguments.files_of.rglob("*") if file.is_file())
        outcome["rows"] = list(read_durable_rows(arguments.files_of).values())
    sys.stdout.write(f"OUTCOME {json.dumps(outcome)}\n")


def read_durable_rows(folder: Path) -> dict[str, dict[str, object]]:
    """Return the last durable row of each line, by its id: of the result manifest or of the write-ahead log."""
    rows = {}
    for part in [folder / "results.jsonl", *sorted((folder / ".mps-batch" / "journal").glob("*.jsonl"))]:
        for line in part.read_text().splitlines() if part.exists() else ():
            with suppress(ValueError):  # a write that a full disk cut off
                row = json.loads(line)
                rows[row["id"]] = row
    return rows
