"""
Pytest fixtures that run the emulator, for tests of your own DAGs.

In your topmost ``conftest.py``: ``pytest_plugins = ["airflow_provider_mps.emulator.fixtures"]``.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.emulator.server import RunningEmulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def start_mps_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., RunningEmulator]]:
    """
    Return a function that starts an emulator, and points the connection ``mps_default`` to it during the test.

    The function takes the fields of :class:`~.Options` by name (defaults here: a tone as voice, no synthesis time) and
    returns the :class:`~.RunningEmulator`. ``app`` serves another ASGI application, e.g. the emulator wrapped in
    faults of your own.
    """
    with ExitStack() as running:

        def start(app: Any = None, **options: Any) -> RunningEmulator:
            settings = {"synthesis_time": 0.0, "voice": "tone", **options}
            emulator = running.enter_context(RunningEmulator(Options(**settings), app))
            monkeypatch.setenv("AIRFLOW_CONN_MPS_DEFAULT", emulator.connection_uri)
            return emulator

        yield start


@pytest.fixture
def mps_emulator(start_mps_emulator: Callable[..., RunningEmulator]) -> RunningEmulator:
    """Run an emulator without delays, and point the connection ``mps_default`` to it."""
    return start_mps_emulator()
