"""Helpers for tests of tracks: a batch on disk without MPS, and the samples of audio files."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from airflow.providers.common.compat.sdk import ObjectStoragePath
from fastcrc import crc64

from airflow_provider_mps.operators.track import AssembleTrackOperator
from airflow_provider_mps.speech.request import hash_text
from tests.batching import context

RATE = 16_000


def tone(seconds: float, level: int = 8_000, rate: int = RATE) -> np.ndarray:
    """Return samples of one value, by which a clip is recognized in a track."""
    return np.full(round(seconds * rate), level, np.int16)


def encode(samples: np.ndarray, rate: int = RATE, audio_format: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=audio_format, subtype=subtype)
    return file.getvalue()


def decode(content: bytes) -> np.ndarray:
    samples, _ = soundfile.read(io.BytesIO(content), dtype="int16")
    return np.asarray(samples)


class FinishedBatch:
    """A batch whose clips are written here rather than by MPS."""

    def __init__(self, folder: ObjectStoragePath | Path) -> None:
        self.folder = ObjectStoragePath(f"file://{folder}") if isinstance(folder, Path) else folder
        self.rows: list[dict[str, Any]] = []
        self.texts: list[dict[str, Any]] = []

    def add(self, audio: np.ndarray | bytes | None, suffix: str = ".wav", rate: int = RATE, **fields: Any) -> str:
        """Add a line; one without audio has failed."""
        number = len(self.rows) + 1
        line_id = f"clip-{number:04}"
        text = f"This is line {number}."
        row = {"id": line_id, "line": number, "status": "failed", "text_hash": hash_text(text), "VoiceId": "voice-1"}
        row["characters"] = len(text)
        if audio is not None:
            content = audio if isinstance(audio, bytes) else encode(audio, rate)
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{line_id}{suffix}"
            path.write_bytes(content)
            row |= {"status": "stored", "path": str(path), "size": len(content), "crc64": str(crc64.xz(content))}
        self.rows.append({**row, **fields})
        self.texts.append({"id": line_id, "text": text})
        return line_id

    def write(self, **summary: Any) -> str:
        """Write the files of the batch; return the path of its results."""
        self.folder.mkdir(parents=True, exist_ok=True)
        manifest = self.folder / "manifest.jsonl"
        manifest.write_text("".join(json.dumps(line) + "\n" for line in self.texts))
        (self.folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        values = {"run": [], "finished": True, "lines": len(self.rows), "manifest": str(manifest), **summary}
        (self.folder / "summary.json").write_text(json.dumps(values))
        return str(self.folder / "results.jsonl")

    @property
    def track_path(self) -> ObjectStoragePath:
        return self.folder / "out" / "track.wav"

    def assemble(self, **arguments: Any) -> Any:
        """Assemble the track; return the samples, and keep the XComs."""
        destination = arguments.pop("destination", str(self.track_path))
        operator = AssembleTrackOperator(
            task_id="track", **{"results": str(self.folder / "results.jsonl"), "destination": destination, **arguments}
        )
        airflow = context()
        path = ObjectStoragePath(operator.execute(airflow))
        self.operator, self.xcoms = operator, airflow["ti"].xcoms
        return decode(path.read_bytes())
