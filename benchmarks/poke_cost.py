"""
What one poke costs a rescheduled sensor's worker, beside a PythonSensor that makes no call.

Every figure is the median over fresh processes, as each rescheduled poke is one; the candidates take turns. Run it with
``python -m benchmarks.poke_cost``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.emulator.server import RunningEmulator
from airflow_provider_mps.hooks.mps import MpsHook

CANDIDATES = {
    "PythonSensor": """
from airflow.providers.standard.sensors.python import PythonSensor
PythonSensor(task_id="wait", python_callable=lambda: False).poke({})
""",
    "TextToSpeechTaskSensor": """
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor
assert not TextToSpeechTaskSensor(task_id="wait", mps_task_id=sys.argv[1]).poke({})
""",
}
MEASURE = """
import json, resource, sys, time
import airflow.sdk
{statement}
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({{"cpu": used.ru_utime + used.ru_stime, "mb": used.ru_maxrss / 1000}}))
"""


def measure(statement: str, task_id: str) -> dict[str, float]:
    """Poke once in a fresh process, and return what the whole process took."""
    code = MEASURE.format(statement=statement)
    done = subprocess.run([sys.executable, "-c", code, task_id], capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="fresh processes for each candidate")
    runs = parser.parse_args().runs
    with RunningEmulator(Options(synthesis_time=3600, voice="tone")) as emulator:
        os.environ["AIRFLOW_CONN_MPS_DEFAULT"] = emulator.connection_uri
        task_id = MpsHook().submit_text_to_speech("hi", "voice")
        results: dict[str, list[dict[str, float]]] = {name: [] for name in CANDIDATES}
        for _ in range(runs + 1):  # the first writes the bytecode
            for name, statement in CANDIDATES.items():
                results[name].append(measure(statement, task_id))
    middle = {
        name: {key: statistics.median(row[key] for row in rows[1:]) for key in ("cpu", "mb")}
        for name, rows in results.items()
    }
    bare, ours = middle.values()
    print("| one poke in a process of its own | CPU, seconds | MB at most |\n|---|---|---|")
    for name, row in middle.items():
        print(f"| {name} | {row['cpu']:.2f} | {row['mb']:.0f} |")
    print(f"| beyond the bare one | {ours['cpu'] - bare['cpu']:.2f} | {ours['mb'] - bare['mb']:.0f} |")


if __name__ == "__main__":
    main()
