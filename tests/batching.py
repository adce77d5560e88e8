"""Helpers for tests of batches: manifests, destinations and results."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import ObjectStoragePath
from fastcrc import crc64

from airflow_provider_mps.batch import lease
from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator
from tests.faulty_emulator import FaultyEmulator
from tests.storing import FakeTaskInstance

LEASE_TIMES_SECONDS = {
    "HEARTBEAT_INTERVAL_SECONDS": 0.2,
    "LEASE_VALIDITY_SECONDS": 120.0,
    "LEASE_EXPIRY_SECONDS": 180.0,
    "SETTLE_DELAY_SECONDS": 0.5,
}
"""Frequent heartbeats, and a lease that does not expire on a loaded machine."""
LINES = 20
"""Lines of a manifest whose length does not matter."""


def line(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": f"clip-{number:04}", "text": f"This is line {number}.", "voice_id": "voice-1", **fields}


def failing(number: int) -> dict[str, Any]:
    """Return a line that MPS fails if its number ends in 3."""
    return line(number, text=f"[fail] {number}" if number % 10 == 3 else f"This is line {number}.")


def write_manifest(path: Path, lines: Iterable[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return f"file://{path}"


@dataclass
class Clips:
    """A destination and its files."""

    destination: str

    @property
    def root(self) -> ObjectStoragePath:
        return ObjectStoragePath(self.destination.rstrip("/"))

    def rows(self) -> list[dict[str, Any]]:
        self.root.fs.invalidate_cache()
        return [json.loads(row) for row in (self.root / "results.jsonl").read_text().splitlines()]

    def row(self, line_id: str) -> dict[str, Any]:
        (found,) = [row for row in self.rows() if row["id"] == line_id]
        return found

    def statuses(self) -> Counter[str]:
        return Counter(row["status"] for row in self.rows())

    def summary(self) -> dict[str, Any]:
        self.root.fs.invalidate_cache()
        summary: dict[str, Any] = json.loads((self.root / "summary.json").read_text())
        return summary

    def audio(self) -> dict[str, bytes]:
        fs = self.root.fs
        fs.invalidate_cache()
        return {name: fs.cat_file(name) for name in fs.find(self.root.path) if name.endswith(".wav")}

    def require_true(self) -> None:
        """Check that the result manifest describes exactly the audio that is stored."""
        audio, stored = self.audio(), [row for row in self.rows() if row["status"] == "stored"]
        assert len({row["id"] for row in stored}) == len(stored)
        for row in stored:
            content = audio.pop(ObjectStoragePath(row["path"]).path.lstrip("/"), None) or audio.pop(
                ObjectStoragePath(row["path"]).path, None
            )
            assert content is not None, row
            assert (len(content), str(crc64.xz(content))) == (row["size"], row["crc64"])
            assert row["TaskId"]
            assert row["error"] is None
        assert not audio


def context(run_id: str = "run-1", try_number: int = 1, max_tries: int = 0) -> dict[str, Any]:
    instance = FakeTaskInstance()
    vars(instance).update(
        dag_id="dag", run_id=run_id, task_id="batch", map_index=-1, try_number=try_number, max_tries=max_tries
    )
    return {"ti": instance}


def batch(manifest: str, destination: str, **options: Any) -> TextToSpeechBatchOperator:
    return TextToSpeechBatchOperator(
        task_id="batch", **{"manifest": manifest, "destination": destination, "poll_interval": 0.2, **options}
    )


def run_batch(
    manifest: str, destination: str, run_id: str = "run-1", max_tries: int = 0, **options: Any
) -> dict[str, Any]:
    """Execute the operator without Airflow; a clear raises ``max_tries``."""
    result: dict[str, Any] = batch(manifest, destination, **options).execute(context(run_id, max_tries=max_tries))
    return result


def submits(app: FaultyEmulator) -> int:
    return app.actions.count("TextToSpeechAsync")


def accepted(app: Any) -> Counter[str]:
    """Return how often the emulator has accepted each text."""
    return Counter(task.text for task in list(app.state.tasks._tasks.values()))


def set_lease_times(set_attribute: Callable[[Any, str, float], object]) -> None:
    """Set the times of all leases with ``setattr`` or ``monkeypatch.setattr``."""
    for name, seconds in LEASE_TIMES_SECONDS.items():
        set_attribute(lease, name, seconds)


def wait_until(condition: Callable[[], object], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
