"""Each kind of credential that submit_text without an account, checked by the emulator."""

import asyncio

import pytest

from airflow_provider_mps.emulator.auth import KeyStore
from airflow_provider_mps.exceptions import MpsPermanentError
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
def submit_text(request):
    """Submit a text through the synchronous or the asynchronous method."""
    return submit if request.param == "sync" else lambda: asyncio.run(asubmit())


def remove_login(emulator):
    return emulator.connection_uri.replace("emulator-id:emulator-key@", "")


def test_submit_with_keys_is_accepted(emulator, submit_text):
    assert submit_text()


def test_submit_with_token_is_accepted(start_emulator, submit_text):
    start_emulator(token="session-token")
    assert submit_text()


def test_submit_without_token_is_rejected(start_emulator, submit_text, connect):
    emulator = start_emulator(token="session-token")
    connect(emulator.connection_uri.replace("token=session-token", "token="))
    with pytest.raises(MpsPermanentError, match="Check the session token"):
        submit_text()


def test_submit_with_assumed_role_is_accepted(emulator, submit_text, connect):
    connect(f"{emulator.connection_uri}&{ROLE}")
    assert submit_text()


def test_submit_with_role_assumed_by_token_is_accepted(start_emulator, submit_text, connect):
    emulator = start_emulator(token="session-token")
    connect(f"{emulator.connection_uri}&{ROLE}")
    assert submit_text()


def test_submit_with_environment_keys_is_accepted(emulator, submit_text, connect, monkeypatch):
    connect(remove_login(emulator))
    monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", "emulator-id")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", "emulator-key")
    assert submit_text()


def test_submit_with_profile_file_is_accepted(emulator, submit_text, connect, monkeypatch, tmp_path):
    connect(remove_login(emulator))
    (tmp_path / ".tencentcloud").mkdir()
    (tmp_path / ".tencentcloud" / "credentials").write_text(
        "[default]\nsecret_id=emulator-id\nsecret_key=emulator-key\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    assert submit_text()


def test_submit_with_role_assumed_by_environment_is_accepted(emulator, submit_text, connect, monkeypatch):
    connect(f"{remove_login(emulator)}&{ROLE}")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", "emulator-id")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", "emulator-key")
    assert submit_text()


def test_expired_role_keys_are_refreshed_once(emulator, submit_text, connect, monkeypatch):
    connect(f"{emulator.connection_uri}&{ROLE}")
    # The emulator expires the first keys long before the expiry in its response.
    keys = []
    issue = KeyStore.issue_temporary

    def expire_first_keys(store, expires_at):
        keys.append(issue(store, 0.0 if not keys else expires_at))
        return keys[-1]

    monkeypatch.setattr(KeyStore, "issue_temporary", expire_first_keys)
    assert submit_text()
    assert len(keys) == 2
