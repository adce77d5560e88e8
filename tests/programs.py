"""Programs that tests run for real."""

from __future__ import annotations

import os

import pytest

from dev.programs import find_program


def require_program(name: str) -> str:
    """Return a program's path; without it the test is skipped, and fails where CI promises it."""
    path = find_program(name)
    if path is None and os.environ.get("CI") == "true":
        pytest.fail(f"{name} is not installed, which .ci/run should have done")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path
