import fsspec
import pytest
from airflow.sdk.io import attach


@pytest.fixture(autouse=True)
def memory_filesystem():
    """Attach object storage that cannot append, for memory:// paths."""
    attach("memory", fs=fsspec.filesystem("memory"))
