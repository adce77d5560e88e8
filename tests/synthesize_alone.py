"""Run one attempt of a task that speaks a short text, in a process that a test can kill; and print its outcome."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from airflow_provider_mps.operators.synthesize import TextToSpeechSynthesizeOperator
from tests.clone_alone import STARTED, FileStore, make_context


def synthesize(destination: str, store_path: Path, try_number: int) -> None:
    """Run the attempt."""
    logging.basicConfig(level=logging.INFO)
    context = make_context(FileStore(store_path), try_number)
    operator = TextToSpeechSynthesizeOperator(
        task_id="speak", text="Hello", voice_id="v1", target_duration=20, destination=destination
    )
    sys.stdout.write(f"{STARTED}\n")
    outcome: dict[str, Any] = {"error": None, "message": ""}
    try:
        outcome["path"] = operator.execute(context)  # type: ignore[arg-type]
        outcome["xcoms"] = context["ti"].xcoms
    except Exception as error:  # noqa: BLE001 - the test checks which error it is
        outcome = {"error": type(error).__name__, "message": str(error)}
    sys.stdout.write(f"OUTCOME {json.dumps(outcome)}\n")
