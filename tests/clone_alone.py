"""Run one attempt of a task that clones a voice, in a process that a test can kill; and print its outcome."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow_provider_mps.api import voice_actions
from airflow_provider_mps.durable import clone
from airflow_provider_mps.operators.voices import CloneVoiceOperator

STARTED = "STARTED"
"""Printed when the attempt starts."""
MAX_TRIES = 1000


class FileStore:
    """A task state store that survives its process, and writes atomically, as Airflow's does."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str, default: Any = None) -> Any:
        return self._load().get(key, default)

    def set(self, key: str, value: Any) -> None:
        self._save({**self._load(), key: value})

    def delete(self, key: str) -> None:
        values = self._load()
        values.pop(key, None)
        self._save(values)

    def _load(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        with suppress(FileNotFoundError):
            values = json.loads(self._path.read_text())
        return values

    def _save(self, values: dict[str, Any]) -> None:
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(values))
        temporary.replace(self._path)


def shorten_times(set_attribute: Any, *, clone_timeout: float, grace: float) -> None:
    """Set the times of clones with ``setattr`` or ``monkeypatch.setattr``."""
    set_attribute(voice_actions, "CLONE_TIMEOUT_SECONDS", clone_timeout)
    set_attribute(clone, "GRACE_SECONDS", grace)
    set_attribute(clone, "SEARCH_INTERVAL_SECONDS", 0.1)


def make_context(store: Any, try_number: int, max_tries: int = MAX_TRIES) -> dict[str, Any]:
    """Return the context of an attempt, whose task instance keeps the XComs."""
    xcoms: dict[str, Any] = {}
    ti = SimpleNamespace(try_number=try_number, max_tries=max_tries, xcoms=xcoms)
    ti.xcom_push = lambda key, value: xcoms.update({key: value})
    return {"ti": ti, "task_state_store": store} if store else {"ti": ti}


def clone_voice(
    audio: str,
    name: str,
    if_exists: str,
    store_path: Path | None,
    try_number: int,
    clone_timeout: float = 20,
    grace: float = 8,
) -> None:
    """Run the attempt, without a state store if it has no path."""
    logging.basicConfig(level=logging.INFO)
    shorten_times(setattr, clone_timeout=clone_timeout, grace=grace)
    context = make_context(FileStore(store_path) if store_path else None, try_number)
    operator = CloneVoiceOperator(task_id="clone", audio=audio, name=name, if_exists=if_exists)  # type: ignore[arg-type]
    sys.stdout.write(f"{STARTED}\n")
    outcome: dict[str, Any] = {"error": None, "message": ""}
    try:
        outcome["voice_id"] = operator.execute(context)  # type: ignore[arg-type]
        outcome["xcoms"] = context["ti"].xcoms
    except Exception as error:  # noqa: BLE001 - the test checks which error it is
        outcome = {"error": type(error).__name__, "message": str(error)}
    sys.stdout.write(f"OUTCOME {json.dumps(outcome)}\n")
