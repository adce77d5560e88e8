"""Fixtures for batches: an emulator, a manifest, and destinations for the clips."""

from __future__ import annotations

import pytest

from airflow_provider_mps.emulator.app import Options
from tests.batching import Clips, line, set_lease_times, write_manifest
from tests.faulty_emulator import FaultyEmulator


@pytest.fixture(autouse=True)
def lease_times(monkeypatch):
    set_lease_times(monkeypatch.setattr)


@pytest.fixture
def app(start_emulator, connect):
    """A fast emulator with a rate limit that tests do not reach."""
    app = FaultyEmulator(Options(synthesis_time=(0.1, 0.5), rate_limit=1000, voice="tone"))
    emulator = start_emulator(app)
    app.connection_uri = f"{emulator.connection_uri}&requests_per_second=200"
    connect(app.connection_uri)
    return app


@pytest.fixture
def manifest(tmp_path):
    """Write a manifest of the given lines, or of this many."""

    def manifest(lines):
        if isinstance(lines, int):
            lines = map(line, range(lines))
        return write_manifest(tmp_path / "manifest.jsonl", lines)

    return manifest


@pytest.fixture
def clips(tmp_path):
    return Clips(f"file://{tmp_path}/clips/")


@pytest.fixture
def s3_clips(s3):
    return Clips(f"{s3.root}batch/")
