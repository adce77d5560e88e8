"""
Run one batch as a worker does, with the provider that ``PYTHONPATH`` names, and print when it ended.

``python benchmarks/one_batch.py MANIFEST DESTINATION``; other benchmarks start it. It imports no other benchmark,
because the provider may be of another version.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import suppress

from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator


def main(manifest: str, destination: str) -> None:
    """Run the batch until it ends, or SIGTERM ends it."""
    operator = TextToSpeechBatchOperator(
        task_id="batch", manifest=manifest, destination=destination, on_line_failure="continue"
    )
    signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())  # as Airflow does
    with suppress(Exception):  # of a batch that SIGTERM has ended
        operator.execute({})
    print(json.dumps({"ended": time.monotonic(), "cpu": time.process_time()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
