import fsspec
import pytest
from airflow.sdk.io import attach


@pytest.fixture(autouse=True)
def memory_filesystem():
    """A store that cannot append, as memory:// paths."""
    attach("memory", fs=fsspec.filesystem("memory"))
