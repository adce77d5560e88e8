"""Where the system tests run: the emulator, and a real account if the environment names one."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass

import pytest

REQUIRED = ("MPS_SYSTEM_TEST_CONN", "MPS_SYSTEM_TEST_VOICE_ID")
GUIDE = "see 'Run the system tests with an account' in docs/development.md"


@dataclass(frozen=True)
class Service:
    """An MPS that the connection ``mps_default`` leads to, and what a run needs besides."""

    voice_id: str
    destination: str
    """A folder in object storage that no other test uses, without a slash at its end."""
    sample: str | None = None
    """A recording to clone; ``None`` means the tone that the example DAG writes, which only the emulator accepts."""


@pytest.fixture(params=["emulator", "account"])
def start_service(request, start_emulator, connect, tmp_path):
    """
    Return a function that starts the emulator or, the second time, finds the account.

    Without an account, the test is skipped, also in CI. The function takes options of the emulator, and ``needs``: more
    environment variables without which an account cannot do what is tested.
    """

    def start(*, needs: tuple[str, ...] = (), **emulator_options: float) -> Service:
        if request.param == "emulator":
            start_emulator(**emulator_options)
            return Service("voice-1", f"file://{tmp_path}")
        require_variables(*REQUIRED, *needs)
        connect(os.environ["MPS_SYSTEM_TEST_CONN"])
        folder = os.environ.get("MPS_SYSTEM_TEST_DESTINATION") or f"file://{tmp_path}"
        destination = f"{folder.rstrip('/')}/airflow-provider-mps-{uuid.uuid4().hex}"
        return Service(os.environ["MPS_SYSTEM_TEST_VOICE_ID"], destination, os.environ.get("MPS_SYSTEM_TEST_SAMPLE"))

    return start


def require_variables(*names: str) -> None:
    """Skip the test if one of the environment variables is missing."""
    if missing := [name for name in names if not os.environ.get(name)]:
        pytest.skip(f"Set {', '.join(missing)} to run this against an account: {GUIDE}.")
