from __future__ import annotations

import pytest

from airflow_provider_mps.emulator.app import Options
from tests.batching import Clips, set_lease_times
from tests.faulty_emulator import FaultyEmulator


@pytest.fixture
def app(start_emulator, connect, monkeypatch):
    """An emulator with short synthesis, for batches with short lease times."""
    set_lease_times(monkeypatch.setattr)
    app = FaultyEmulator(Options(synthesis_time=0.1, rate_limit=1000, voice="tone"))
    connect(f"{start_emulator(app).connection_uri}&requests_per_second=200")
    return app


@pytest.fixture
def clips(tmp_path):
    return Clips(f"file://{tmp_path}/clips/")
