import logging

import pytest

from airflow_provider_mps.hooks.mps import MpsHook


@pytest.fixture
def submit(start_emulator):
    """Start an emulator and submit so many texts, whatever its quota is."""

    def start(count, app=None, **options):
        emulator = start_emulator(app, **options)
        hook = MpsHook()
        return emulator, [hook.submit_text_to_speech(f"hello {number}", "voice") for number in range(count)]

    return start


@pytest.fixture
def told(caplog):
    caplog.set_level(logging.INFO, logger="airflow_provider_mps.triggers")
    return lambda level: [
        record.message
        for record in caplog.records
        if record.levelno == level and record.name.startswith("airflow_provider_mps.triggers")
    ]
