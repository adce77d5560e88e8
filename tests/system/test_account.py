"""The run against an account, with an emulator that the tests of that run do not know."""

import os
import subprocess
import sys

import pytest

from airflow_provider_mps.emulator.app import Options, make_app
from dev.airflow_environment import REPOSITORY
from tests.batching import accepted

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("dags of integration")]

NOTIFICATION = "test_example_notification_is_an_mp3"


def run_account_test(**variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MPS_", "PYTEST_"))}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "-p",
        "no:cacheprovider",
        "-k",
        f"{NOTIFICATION} and account",
    ]
    done = subprocess.run(
        [*command, "tests/system"],
        cwd=REPOSITORY,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return " ".join(done.stdout.split())


def test_account_run_without_variables_is_skipped_and_names_them():
    output = run_account_test(CI="true", MPS_SYSTEM_TEST_CONN="tencent-mps://id:key@example.com")
    assert "1 skipped" in output
    assert "passed" not in output
    assert "Set MPS_SYSTEM_TEST_VOICE_ID to run this against an account" in output


def test_account_run_needs_only_the_variables(start_emulator, tmp_path):
    options = Options(synthesis_time=0, voice="tone", secret_id="account-id", secret_key="account-key")
    app = make_app(options)
    emulator = start_emulator(app, secret_id="account-id", secret_key="account-key")
    output = run_account_test(
        MPS_SYSTEM_TEST_CONN=emulator.connection_uri,
        MPS_SYSTEM_TEST_VOICE_ID="voice-of-account",
        MPS_SYSTEM_TEST_DESTINATION=f"file://{tmp_path}",
    )
    assert "1 passed" in output
    assert accepted(app) == {"Done {{ ds }}.": 1}
    (clip,) = tmp_path.rglob("notification.mp3")
    assert clip.stat().st_size > 0
