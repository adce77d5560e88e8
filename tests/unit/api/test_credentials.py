import asyncio
import time
import traceback

import pytest

from airflow_provider_mps.api import client, credentials
from airflow_provider_mps.api.connection import MpsConnection
from airflow_provider_mps.api.credentials import (
    REFRESH_BEFORE_SECONDS,
    AsyncCredential,
    TemporaryCredential,
    make_credential,
)
from airflow_provider_mps.error_codes import ErrorClass
from airflow_provider_mps.exceptions import InvalidMpsConnectionError, MpsApiError
from tests.certificates import PrivateCa
from tests.scripted_server import Reply, ScriptedServer, Tunnel, make_api_error, make_json_reply


def connection(**fields):
    return MpsConnection(conn_id="my_mps", endpoint="mps.example", **fields)


def no_sts(*_):
    raise AssertionError("STS was called")


def test_credential_with_login_uses_keys():
    credential = make_credential(connection(secret_id="id", secret_key="key", token="token"), no_sts)
    assert credential.get_credential_info() == ("id", "key", "token")


def test_credential_without_login_uses_environment(monkeypatch):
    monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", "env-id")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", "env-key")
    assert make_credential(connection(), no_sts).get_credential_info()[:2] == ("env-id", "env-key")


def test_credential_without_environment_uses_profile_file(monkeypatch, tmp_path):
    (tmp_path / ".tencentcloud").mkdir()
    (tmp_path / ".tencentcloud" / "credentials").write_text("[default]\nsecret_id=file-id\nsecret_key=file-key\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert make_credential(connection(), no_sts).get_credential_info()[:2] == ("file-id", "file-key")


def test_credential_missing_names_connection_and_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InvalidMpsConnectionError, match=r"'my_mps'.*TENCENTCLOUD_SECRET_ID"):
        make_credential(connection(), no_sts)


def test_invalid_key_in_environment_raises_without_key(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", "some-id")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", "SECRET ")
    with pytest.raises(InvalidMpsConnectionError, match=r"'my_mps'.*secret key should not contain spaces") as caught:
        make_credential(connection(), no_sts)
    assert "SECRET " not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("text", ["secret_key=SECRET\n", "[other]\nsecret_key=SECRET\n", "[default]\nSECRET\n"])
def test_invalid_profile_file_raises_without_content(monkeypatch, tmp_path, text):
    (tmp_path / ".tencentcloud").mkdir()
    (tmp_path / ".tencentcloud" / "credentials").write_text(text)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InvalidMpsConnectionError, match="profile file") as caught:
        make_credential(connection(), no_sts)
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


def test_metadata_service_error_is_transient(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with ScriptedServer(Reply(b"", 503)) as metadata:
        monkeypatch.setattr(credentials, "METADATA_URL", f"{metadata.url}/")
        with pytest.raises(MpsApiError, match="'my_mps'") as caught:
            make_credential(connection(), no_sts)
    assert caught.value.error_class is ErrorClass.NOT_SENT


def test_machine_role_without_new_keys_is_transient(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    soon = {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": "t", "Code": "Success", "ExpiredTime": time.time() + 100}
    with ScriptedServer(Reply(b"my-role"), make_json_reply(soon)) as metadata:
        monkeypatch.setattr(credentials, "METADATA_URL", f"{metadata.url}/")
        credential = make_credential(connection(), no_sts)
        credential._refresh_at = credential._expires_at = 0.0  # the keys expire
        metadata.script[:] = [Reply(b"", 503)]
        with pytest.raises(MpsApiError) as caught:
            credential.get_credential_info()
    assert caught.value.error_class is ErrorClass.NOT_SENT


@pytest.mark.parametrize(
    ("response", "error_class"),
    [
        (make_api_error("InternalError"), ErrorClass.NOT_SENT),
        (Reply(b"no json"), ErrorClass.NOT_SENT),
        (Reply(b"", 502), ErrorClass.NOT_SENT),
        (make_api_error("AuthFailure.UnauthorizedOperation"), ErrorClass.PERMANENT),
    ],
)
def test_pod_identity_classifies_sts_errors(monkeypatch, tmp_path, response, error_class):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "token").write_text("jwt")
    for name in ("REGION", "PROVIDER_ID", "ROLE_ARN"):
        monkeypatch.setenv(f"TKE_{name}", "some")
    monkeypatch.setenv("TKE_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    with ScriptedServer(response) as sts:
        monkeypatch.setattr(client, "POD_STS_ENDPOINT", (f"127.0.0.1:{sts.port}", "http"))
        credential = client.make_client_credential(connection(timeout=2))
        with pytest.raises(MpsApiError) as caught:
            credential.get_credential_info()
        assert sts.requests
    assert caught.value.error_class is error_class


@pytest.mark.parametrize("role", [b"my-role", b""], ids=["a role", "no role"])
@pytest.mark.usefixtures("no_network_variables")
def test_metadata_service_bypasses_proxy(monkeypatch, tmp_path, role):
    monkeypatch.setenv("HOME", str(tmp_path))
    keys = {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": "t", "Code": "Success", "ExpiredTime": 4e9}

    def serve(request):
        return make_json_reply(keys) if request.target.endswith("my-role") else Reply(role)

    with ScriptedServer(serve) as metadata, Tunnel(metadata.port) as proxy:
        monkeypatch.setattr(credentials, "METADATA_URL", f"{metadata.url}/")
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        if role:
            assert make_credential(connection(), no_sts).get_credential_info() == ("i", "k", "t")
        else:
            with pytest.raises(InvalidMpsConnectionError):
                make_credential(connection(), no_sts)
        assert metadata.requests
    assert proxy.targets == []


@pytest.mark.usefixtures("no_network_variables")
def test_pod_identity_uses_proxy_and_certificates(monkeypatch, tmp_path):
    ca = PrivateCa.create(tmp_path, "sts.test")
    (tmp_path / "token").write_text("jwt")
    for name in ("REGION", "PROVIDER_ID", "ROLE_ARN"):
        monkeypatch.setenv(f"TKE_{name}", "some")
    monkeypatch.setenv("TKE_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("HOME", str(tmp_path))
    role = {"Credentials": {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": "t"}, "ExpiredTime": 4e9}
    with ScriptedServer(make_json_reply({"Response": role}), tls=ca.server) as sts, Tunnel(sts.port) as proxy:
        monkeypatch.setenv("SSL_CERT_FILE", str(ca.file))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setattr(client, "POD_STS_ENDPOINT", ("sts.test", "https"))
        credential = client.make_client_credential(connection())
        assert credential.get_credential_info() == ("i", "k", "t")
        assert proxy.targets == ["sts.test:443"]
        assert sts.requests[0].headers["x-tc-action"] == "AssumeRoleWithWebIdentity"
        assert "jwt" in sts.requests[0].body.decode()


def test_role_is_assumed_with_keys_and_session_name():
    calls = []

    def call_sts(credential, action, parameters, _):
        calls.append((action, credential.get_credential_info(), parameters["RoleArn"], parameters["RoleSessionName"]))
        keys = {"TmpSecretId": "tmp-id", "TmpSecretKey": "tmp-key", "Token": "tmp-token"}
        return {"Credentials": keys, "ExpiredTime": time.time() + 3600}

    credential = make_credential(
        connection(secret_id="id", secret_key="key", role_arn="arn", role_session_name="me"), call_sts
    )
    assert calls == []
    assert credential.get_credential_info() == ("tmp-id", "tmp-key", "tmp-token")
    assert calls == [("AssumeRole", ("id", "key", None), "arn", "me")]


def test_temporary_keys_are_cached():
    role = TemporaryCredential([make_keys(REFRESH_BEFORE_SECONDS + 60)].pop)
    assert role.get_credential_info() == role.get_credential_info()


def test_temporary_keys_are_refreshed_before_expiry(monkeypatch):
    role = TemporaryCredential([make_keys(7200, "second"), make_keys(3600, "first")].pop)
    assert role.get_credential_info()[0] == "first"
    later = time.time() + 3600 - REFRESH_BEFORE_SECONDS + 1
    monkeypatch.setattr("airflow_provider_mps.api.credentials.time.time", lambda: later)
    assert role.get_credential_info()[0] == "second"


def test_short_lived_keys_are_not_fetched_per_request():
    role = TemporaryCredential([make_keys(1)].pop)
    assert role.get_credential_info() == role.get_credential_info()


def test_temporary_keys_are_kept_if_refresh_fails():
    outcomes = [MpsApiError("InternalError", "not now"), make_keys(REFRESH_BEFORE_SECONDS - 60)]

    def fetch():
        outcome = outcomes.pop()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    role = TemporaryCredential(fetch)
    role.get_credential_info()
    role._refresh_at = 0.0
    assert role.get_credential_info()[0] == "tmp-id"
    assert outcomes == []


def test_expired_keys_are_not_used_after_failed_refresh(monkeypatch):
    outcomes = [make_keys(REFRESH_BEFORE_SECONDS)]

    def fetch():
        if not outcomes:
            raise MpsApiError("InternalError", "not now")
        return outcomes.pop()

    role = TemporaryCredential(fetch)
    role.get_credential_info()
    almost_expired, expired = role._expires_at - 0.5, role._expires_at + 0.1
    monkeypatch.setattr(time, "time", lambda: almost_expired)
    role.get_credential_info()
    monkeypatch.setattr(time, "time", lambda: expired)
    with pytest.raises(MpsApiError):
        role.get_credential_info()


def make_keys(seconds, secret_id="tmp-id"):
    return (secret_id, "tmp-key", "tmp-token"), time.time() + seconds


class SlowCredential:
    """A credential that counts its calls, and blocks a little."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.calls = 0

    def get_credential_info(self):
        self.calls += 1
        time.sleep(0.05)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def test_async_credential_caches_keys():
    source = SlowCredential(("id", "key", None))

    async def use():
        keys = AsyncCredential(source)
        for _ in range(5):
            await keys.refresh()
        return keys.get_credential_info()

    assert asyncio.run(use()) == ("id", "key", None)
    assert source.calls == 1


def test_async_credential_rechecks_keys(monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.api.credentials.RECHECK_SECONDS", 0.0)

    async def use():
        keys = AsyncCredential(SlowCredential(("old", "key", None), ("new", "key", None)))
        await keys.refresh()
        await keys.refresh()
        return keys.get_credential_info()

    assert asyncio.run(use())[0] == "new"


def test_async_credential_shares_concurrent_refresh():
    source = SlowCredential(("id", "key", None))

    async def use():
        keys = AsyncCredential(source)
        await asyncio.gather(*(keys.refresh() for _ in range(20)))

    asyncio.run(use())
    assert source.calls == 1


def test_async_credential_failed_refresh_raises_and_retries():
    source = SlowCredential(MpsApiError("InternalError", "not now"), ("id", "key", None))

    async def use():
        keys = AsyncCredential(source)
        failures = await asyncio.gather(*(keys.refresh() for _ in range(3)), return_exceptions=True)
        await keys.refresh()
        return failures, keys.get_credential_info()

    failures, keys = asyncio.run(use())
    assert [failure.message for failure in failures] == ["not now"] * 3
    assert keys == ("id", "key", None)
    assert source.calls == 2
