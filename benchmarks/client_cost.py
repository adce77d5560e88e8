"""
What an awaited client of MPS costs: the first one of a process, and each further one.

No request is sent. Each figure is the median over fresh processes, which have imported the hook and the SDK before; the
candidates take turns. A triggerer makes one client for each connection, and each batch makes one. Run it with
``python -m benchmarks.client_cost``; ``--beside FOLDER`` also measures the version of a checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack

from benchmarks.other_version import add_beside_option, make_environment

MEASURE = """
import asyncio, json, ssl, time
import airflow.sdk
from airflow.providers.common.compat.connection import get_async_connection
from airflow_provider_mps.hooks.mps import MpsHook
try:
    import airflow_provider_mps.api.client
except ImportError:
    import airflow_provider_mps.client  # in version 1.0
loads, load = [], ssl.SSLContext.load_verify_locations
def count(context, *arguments, **keywords):
    loads.append(arguments)
    return load(context, *arguments, **keywords)
ssl.SSLContext.load_verify_locations = count
async def main():
    costs = []
    await get_async_connection("mps_default")  # imports what Airflow needs for a look-up
    for _ in range(6):
        hook = MpsHook()
        started, cpu, loaded = time.perf_counter(), time.process_time(), len(loads)
        await hook.aget_conn()
        costs.append({
            "ms": 1000 * (time.perf_counter() - started),
            "cpu_ms": 1000 * (time.process_time() - cpu),
            "loads": len(loads) - loaded,
        })
    return costs
print(json.dumps(asyncio.run(main())))
"""


def measure(environment: dict[str, str], scheme: str) -> list[dict[str, float]]:
    """Make clients in a fresh process, and return what each cost."""
    connection = {"conn_type": "tencent_mps", "login": "some-id", "password": "some-key", "schema": scheme}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # pip compiles bytecode when it installs a package
    environment = {**environment, "AIRFLOW_CONN_MPS_DEFAULT": json.dumps(connection)}
    command = [sys.executable, "-c", MEASURE]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    costs: list[dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return costs


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="fresh processes for each candidate")
    add_beside_option(parser)
    options = parser.parse_args()
    with ExitStack() as stack:
        environments = {"this provider": dict(os.environ)}
        if options.beside:
            environments[options.beside.name] = stack.enter_context(make_environment(options.beside))
        candidates = [(name, scheme) for name in environments for scheme in ("https", "http")]
        results: dict[tuple[str, str], list[list[dict[str, float]]]] = {each: [] for each in candidates}
        for _ in range(options.runs):
            for name, scheme in candidates:
                results[name, scheme].append(measure(environments[name], scheme))
    print("| provider | connection | client | ms (min to max) | CPU ms | certificate files loaded |")
    print("|---|---|---|---|---|---|")
    for (name, scheme), runs in results.items():
        for client, costs in {
            "first": [run[0] for run in runs],
            "each further one": [cost for run in runs for cost in run[1:]],
        }.items():
            times = [cost["ms"] for cost in costs]
            print(
                f"| {name} | {scheme} | {client} | {statistics.median(times):.1f} ({min(times):.1f} to "
                f"{max(times):.1f}) | {statistics.median(cost['cpu_ms'] for cost in costs):.1f} | "
                f"{statistics.median(cost['loads'] for cost in costs):.0f} |"
            )


if __name__ == "__main__":
    main()
