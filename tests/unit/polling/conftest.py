import logging

import pytest


@pytest.fixture
def logged(caplog):
    """Return what the poll loop has logged at a level."""
    caplog.set_level(logging.INFO, logger="airflow_provider_mps.polling")
    return lambda level: [
        record.message
        for record in caplog.records
        if record.levelno == level and record.name.startswith("airflow_provider_mps.polling")
    ]
