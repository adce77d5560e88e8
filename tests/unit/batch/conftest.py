import fsspec
import pytest
from airflow.sdk.io import attach

from airflow_provider_mps.batch import lease as lease_module


@pytest.fixture(autouse=True)
def memory_filesystem():
    """Attach object storage that cannot append, for memory:// paths."""
    attach("memory", fs=fsspec.filesystem("memory"))


@pytest.fixture
def fast_lease_times(monkeypatch):
    for name, seconds in (
        ("HEARTBEAT_INTERVAL_SECONDS", 0.1),
        ("LEASE_VALIDITY_SECONDS", 0.5),
        ("LEASE_EXPIRY_SECONDS", 0.8),
        ("SETTLE_DELAY_SECONDS", 0.2),
    ):
        monkeypatch.setattr(lease_module, name, seconds)
