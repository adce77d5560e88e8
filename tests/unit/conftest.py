"""Shared by the unit tests: no example of hypothesis fails because the machine is busy."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from airflow_provider_mps.hooks.mps import MpsHook

settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


@pytest.fixture
def submit(start_emulator):
    """Start an emulator and submit a number of texts, whatever its quota is."""

    def start(count, app=None, **options):
        emulator = start_emulator(app, **options)
        hook = MpsHook()
        return emulator, [hook.submit_text_to_speech(f"hello {number}", "voice") for number in range(count)]

    return start
