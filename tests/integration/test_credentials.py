"""Every kind of credential that can be had without an account, against the emulator's own checks."""

import asyncio

import pytest

from airflow_provider_mps.emulator.keys import KeyRing
from airflow_provider_mps.errors import MpsPermanentError
from airflow_provider_mps.hooks.mps import MpsHook

ROLE = "role_arn=qcs%3A%3Acam%3A%3Auin%2F1%3AroleName%2Fairflow"


def submit():
    return MpsHook().submit_text_to_speech("hello", "voice")


async def asubmit():
    hook = MpsHook()
    try:
        return await hook.asubmit_text_to_speech("hello", "voice")
    finally:
        await hook.aclose()


@pytest.fixture(params=["sync", "async"])
def works(request):
    """Submit with whatever the connection says."""
    return submit if request.param == "sync" else lambda: asyncio.run(asubmit())


def without_login(emulator):
    return emulator.connection_uri.replace("emulator-id:emulator-key@", "")


def test_keys(emulator, works):
    assert works()


def test_keys_with_a_token(start_emulator, works):
    start_emulator(token="session-token")
    assert works()


def test_keys_without_the_token_that_they_need_are_refused(start_emulator, works, connect):
    emulator = start_emulator(token="session-token")
    connect(emulator.connection_uri.replace("token=session-token", "token="))
    with pytest.raises(MpsPermanentError, match="Check the session token"):
        works()


def test_an_assumed_role(emulator, works, connect):
    connect(f"{emulator.connection_uri}&{ROLE}")
    assert works()


def test_a_role_assumed_with_keys_that_carry_a_token(start_emulator, works, connect):
    emulator = start_emulator(token="session-token")
    connect(f"{emulator.connection_uri}&{ROLE}")
    assert works()


def test_the_environment(emulator, works, connect, monkeypatch):
    connect(without_login(emulator))
    monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", "emulator-id")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", "emulator-key")
    assert works()


def test_the_profile_file(emulator, works, connect, monkeypatch, tmp_path):
    connect(without_login(emulator))
    (tmp_path / ".tencentcloud").mkdir()
    (tmp_path / ".tencentcloud" / "credentials").write_text(
        "[default]\nsecret_id=emulator-id\nsecret_key=emulator-key\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    assert works()


def test_a_role_assumed_with_the_environments_keys(emulator, works, connect, monkeypatch):
    connect(f"{without_login(emulator)}&{ROLE}")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", "emulator-id")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", "emulator-key")
    assert works()


def test_keys_of_a_role_that_have_ended_are_renewed_once(emulator, works, connect, monkeypatch):
    connect(f"{emulator.connection_uri}&{ROLE}")
    # The first keys are ended by the server long before the time that it told.
    keys = []
    issue = KeyRing.issue_temporary

    def end_the_first(ring, expires_at):
        keys.append(issue(ring, 0.0 if not keys else expires_at))
        return keys[-1]

    monkeypatch.setattr(KeyRing, "issue_temporary", end_the_first)
    assert works()
    assert len(keys) == 2
