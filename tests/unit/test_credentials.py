import time

import pytest

from airflow_provider_mps.connection import MpsConnection
from airflow_provider_mps.credentials import RENEW_BEFORE, AssumedRole, make_credential
from airflow_provider_mps.errors import InvalidMpsConnectionError


def connection(**fields):
    return MpsConnection(conn_id="my_mps", endpoint="mps.example", **fields)


def never(*_):
    raise AssertionError("no role was asked for")


def test_a_login_means_its_keys():
    credential = make_credential(connection(secret_id="id", secret_key="key", token="token"), never)
    assert credential.get_credential_info() == ("id", "key", "token")


def test_no_login_means_the_environment_first(monkeypatch):
    monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", "env-id")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", "env-key")
    assert make_credential(connection(), never).get_credential_info()[:2] == ("env-id", "env-key")


def test_no_login_and_no_environment_means_the_profile_file(monkeypatch, tmp_path):
    (tmp_path / ".tencentcloud").mkdir()
    (tmp_path / ".tencentcloud" / "credentials").write_text("[default]\nsecret_id=file-id\nsecret_key=file-key\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert make_credential(connection(), never).get_credential_info()[:2] == ("file-id", "file-key")


def test_no_credentials_at_all_is_an_error_that_names_the_connection_and_what_to_set(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InvalidMpsConnectionError, match=r"'my_mps'.*TENCENTCLOUD_SECRET_ID"):
        make_credential(connection(), never)


def test_a_role_is_assumed_with_the_keys_and_its_name():
    calls = []

    def assume_role(base, parameters):
        calls.append((base.get_credential_info(), parameters["RoleArn"], parameters["RoleSessionName"]))
        return role_answer(3600)

    credential = make_credential(
        connection(secret_id="id", secret_key="key", role_arn="arn", role_session_name="me"), assume_role
    )
    assert calls == []
    assert credential.get_credential_info() == ("tmp-id", "tmp-key", "tmp-token")
    assert calls == [(("id", "key", None), "arn", "me")]


def test_temporary_keys_are_kept_until_shortly_before_their_end():
    answers = [role_answer(RENEW_BEFORE + 60)]
    role = AssumedRole(answers.pop)
    assert role.get_credential_info() == role.get_credential_info()


def test_temporary_keys_are_renewed_before_they_end(monkeypatch):
    answers = [role_answer(7200, "second"), role_answer(3600, "first")]
    role = AssumedRole(answers.pop)
    assert role.get_credential_info()[0] == "first"
    later = time.time() + 3600 - RENEW_BEFORE + 1
    monkeypatch.setattr("airflow_provider_mps.credentials.time.time", lambda: later)
    assert role.get_credential_info()[0] == "second"


def test_keys_that_live_shorter_than_their_renewal_takes_are_not_asked_for_at_every_request():
    answers = [role_answer(1)]
    role = AssumedRole(answers.pop)
    assert role.get_credential_info() == role.get_credential_info()


def role_answer(seconds, secret_id="tmp-id"):
    keys = {"TmpSecretId": secret_id, "TmpSecretKey": "tmp-key", "Token": "tmp-token"}
    return {"Credentials": keys, "ExpiredTime": time.time() + seconds}
