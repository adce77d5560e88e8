"""
What importing the provider adds to ``import airflow.sdk``, beside what a user would import instead.

Every figure is the median over fresh processes, each of which imports ``airflow.sdk`` first; the candidates take turns,
so that changes of the machine's speed affect all of them. Bytecode is compiled before, as pip does when it installs a
package. Run it with ``python -m benchmarks.import_cost``; ``--beside FOLDER`` also measures the version of a checkout.
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

DAG = (
    "import airflow_provider_mps.hooks.mps, airflow_provider_mps.sensors.text_to_speech, "
    "airflow_provider_mps.triggers.text_to_speech, airflow_provider_mps.operators.text_to_speech"
)
OWN = {
    "this provider: hook, sensor, trigger, operators": DAG,
    "the same, and the batch operator": f"{DAG}, airflow_provider_mps.operators.batch",
    "the batch operator alone": "import airflow_provider_mps.operators.batch",
}
CLIENT = {"this": "airflow_provider_mps.api.client", "beside": "airflow_provider_mps.client"}
"""The module that imports the SDK, here and in version 1.0."""
ALTERNATIVES = {
    "amazon provider: S3KeySensor": "import airflow.providers.amazon.aws.sensors.s3",
    "Tencent's typed MpsClient": "import tencentcloud.mps.v20190612.mps_client",
}
MEASURE = """
import json, sys, time
import airflow.sdk
from airflow.sdk import BaseHook, BaseOperator, BaseSensorOperator
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
modules, memory, started, cpu = len(sys.modules), resident(), time.perf_counter(), time.process_time()
{statement}
print(json.dumps({{
    "ms": 1000 * (time.perf_counter() - started),
    "cpu_ms": 1000 * (time.process_time() - cpu),
    "mb": (resident() - memory) / 1e6,
    "modules": len(sys.modules) - modules,
    "sdk": any(name.startswith("tencentcloud") for name in sys.modules),
}}))
"""


def measure(statement: str, environment: dict[str, str]) -> dict[str, float]:
    """Import in a fresh process, and return what it cost."""
    command = [sys.executable, "-c", MEASURE.format(statement=statement)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="fresh processes for each candidate")
    add_beside_option(parser)
    options = parser.parse_args()
    with ExitStack() as stack:
        environments = {"this": dict(os.environ)}
        if options.beside:
            environments["beside"] = stack.enter_context(make_environment(options.beside))
        candidates = {}
        for version, environment in environments.items():
            environment.pop("PYTHONDONTWRITEBYTECODE", None)
            suffix = f" ({options.beside.name})" if version == "beside" else ""
            with_client = {"hook, sensor, trigger, operators, and the SDK": f"{DAG}, {CLIENT[version]}"}
            for name, statement in (OWN | with_client).items():
                candidates[name + suffix] = (statement, environment)
        candidates |= {name: (statement, environments["this"]) for name, statement in ALTERNATIVES.items()}
        for candidate in candidates.values():
            measure(*candidate)  # writes the bytecode, and warms the disk's cache
        results: dict[str, list[dict[str, float]]] = {name: [] for name in candidates}
        for _ in range(options.runs):
            for name, candidate in candidates.items():
                results[name].append(measure(*candidate))
    print("| import, after `airflow.sdk` | ms (min to max) | CPU ms | MB | modules | imports the SDK |")
    print("|---|---|---|---|---|---|")
    for name, rows in results.items():
        middle = {key: statistics.median(row[key] for row in rows) for key in ("ms", "cpu_ms", "mb", "modules")}
        span = f"{min(row['ms'] for row in rows):.0f} to {max(row['ms'] for row in rows):.0f}"
        print(
            f"| {name} | {middle['ms']:.0f} ({span}) | {middle['cpu_ms']:.0f} | {middle['mb']:.1f} | "
            f"{middle['modules']:.0f} | {'yes' if rows[0]['sdk'] else 'no'} |"
        )


if __name__ == "__main__":
    main()
