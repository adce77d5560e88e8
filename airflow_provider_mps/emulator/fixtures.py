"""
Pytest fixtures that run the emulator, for tests of your own DAGs.

In your topmost ``conftest.py``: ``pytest_plugins = ["airflow_provider_mps.emulator.fixtures"]``.
"""

from __future__ import annotations

import os
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

    It also adds the emulator's host to ``NO_PROXY`` and ``no_proxy``, so that requests do not go to a company's proxy.
    The function takes the fields of :class:`~.Options` by name (defaults here: a tone as voice, no synthesis time) and
    returns the :class:`~.RunningEmulator`. ``app`` serves another ASGI application, e.g. the emulator wrapped in
    faults of your own.
    """
    with ExitStack() as running:

        def start(app: Any = None, **options: Any) -> RunningEmulator:
            settings = {"synthesis_time": 0.0, "voice": "tone", **options}
            emulator = running.enter_context(RunningEmulator(Options(**settings), app))
            monkeypatch.setenv("AIRFLOW_CONN_MPS_DEFAULT", emulator.connection_uri)
            _bypass_proxy(emulator.host, monkeypatch)
            return emulator

        yield start


@pytest.fixture
def mps_emulator(start_mps_emulator: Callable[..., RunningEmulator]) -> RunningEmulator:
    """Run an emulator without delays, and point the connection ``mps_default`` to it."""
    return start_mps_emulator()


def _bypass_proxy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a host to ``NO_PROXY`` and ``no_proxy``, of which lower case takes precedence."""
    existing = os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")).strip()
    # urllib and requests respect "*" only if it is the whole value.
    is_bypassed = existing == "*" or host in existing.replace(",", " ").split()
    value = existing if is_bypassed else f"{existing},{host}".lstrip(",")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, value)
