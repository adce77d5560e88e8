"""
What importing the provider adds to ``import airflow.sdk``, beside what a user would import instead.

Every figure is the median over fresh processes, each of which imports ``airflow.sdk`` first; the candidates take turns,
so that a machine whose speed drifts is the same for all. Run it with ``python -m benchmarks.import_cost``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

CANDIDATES = {
    "this provider: hook, sensor, trigger, operators": (
        "import airflow_provider_mps.hooks.mps, airflow_provider_mps.sensors.text_to_speech, "
        "airflow_provider_mps.triggers.text_to_speech, airflow_provider_mps.operators.text_to_speech"
    ),
    "the same, and the SDK that the first call imports": (
        "import airflow_provider_mps.operators.text_to_speech, airflow_provider_mps.sensors.text_to_speech, "
        "airflow_provider_mps.api.client"
    ),
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


def measure(statement: str) -> dict[str, float]:
    """Import in a fresh process, and return what it cost."""
    code = MEASURE.format(statement=statement)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="fresh processes for each candidate")
    runs = parser.parse_args().runs
    for statement in CANDIDATES.values():
        measure(statement)  # writes the bytecode, and warms the disk's cache
    results: dict[str, list[dict[str, float]]] = {name: [] for name in CANDIDATES}
    for _ in range(runs):
        for name, statement in CANDIDATES.items():
            results[name].append(measure(statement))
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
