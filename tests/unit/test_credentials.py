import asyncio
import time
import traceback

import pytest

from airflow_provider_mps import client
from airflow_provider_mps.connection import MpsConnection
from airflow_provider_mps.credentials import RENEW_BEFORE, AssumedRole, FreshKeys, make_credential
from airflow_provider_mps.errors import ErrorClass, InvalidMpsConnectionError, MpsApiError
from tests.certificates import PrivateCa
from tests.scripted_server import Reply, ScriptedServer, Tunnel, api_error, json_reply


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


@pytest.mark.parametrize("text", ["secret_key=SECRET\n", "[other]\nsecret_key=SECRET\n", "[default]\nSECRET\n"])
def test_a_profile_file_that_cannot_be_read_is_an_error_that_does_not_quote_it(monkeypatch, tmp_path, text):
    (tmp_path / ".tencentcloud").mkdir()
    (tmp_path / ".tencentcloud" / "credentials").write_text(text)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InvalidMpsConnectionError, match="profile file") as caught:
        make_credential(connection(), never)
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


def test_a_metadata_service_that_stumbles_is_no_reason_to_give_up(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with ScriptedServer(Reply(b"", 503)) as metadata:
        monkeypatch.setattr("tencentcloud.common.credential.CVMRoleCredential._role_endpoint", f"{metadata.url}/")
        with pytest.raises(MpsApiError) as caught:
            make_credential(connection(), never)
    assert caught.value.error_class is ErrorClass.NOT_SENT


def test_a_machines_role_that_gives_no_keys_later_is_no_reason_to_give_up(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    soon = {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": "t", "Code": "Success", "ExpiredTime": time.time() + 100}
    with ScriptedServer(Reply(b"my-role"), json_reply(soon)) as metadata:
        monkeypatch.setattr("tencentcloud.common.credential.CVMRoleCredential._role_endpoint", f"{metadata.url}/")
        credential = make_credential(connection(), never)
        credential._found._secret_id = None
        metadata.script[:] = [Reply(b"", 503)]
        with pytest.raises(MpsApiError) as caught:
            credential.get_credential_info()
    assert caught.value.error_class is ErrorClass.NOT_SENT


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (api_error("InternalError"), ErrorClass.NOT_SENT),
        (Reply(b"no json"), ErrorClass.NOT_SENT),
        (Reply(b"", 502), ErrorClass.NOT_SENT),
        (api_error("AuthFailure.UnauthorizedOperation"), ErrorClass.PERMANENT),
    ],
)
def test_a_pods_identity_tells_what_lasts_from_what_passes(monkeypatch, tmp_path, answer, kind):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "token").write_text("jwt")
    for name in ("REGION", "PROVIDER_ID", "ROLE_ARN"):
        monkeypatch.setenv(f"TKE_{name}", "some")
    monkeypatch.setenv("TKE_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    with ScriptedServer(answer) as sts:
        credential = make_credential(connection(timeout=2), never)
        credential._found.endpoint = f"127.0.0.1:{sts.port}"
        make = client.make_sts_client
        monkeypatch.setattr(client, "make_sts_client", lambda *arguments: make(*arguments[:3], "http"))
        with pytest.raises(MpsApiError) as caught:
            credential.get_credential_info()
        assert sts.requests
    assert caught.value.error_class is kind


@pytest.mark.parametrize("role", [b"my-role", b""], ids=["a role", "no role"])
@pytest.mark.usefixtures("no_network_variables")
def test_the_metadata_service_is_queried_without_the_environments_proxy(monkeypatch, tmp_path, role):
    monkeypatch.setenv("HOME", str(tmp_path))
    keys = {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": "t", "Code": "Success", "ExpiredTime": 4e9}

    def serve(request):
        return json_reply(keys) if request.target.endswith("my-role") else Reply(role)

    with ScriptedServer(serve) as metadata, Tunnel(metadata.port) as proxy:
        monkeypatch.setattr("tencentcloud.common.credential.CVMRoleCredential._role_endpoint", f"{metadata.url}/")
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        if role:
            assert make_credential(connection(), never).get_credential_info() == ("i", "k", "t")
        else:
            with pytest.raises(InvalidMpsConnectionError):
                make_credential(connection(), never)
        assert metadata.requests
    assert proxy.asked == []


@pytest.mark.usefixtures("no_network_variables")
def test_a_pods_identity_reaches_sts_with_the_environments_proxy_and_certificates(monkeypatch, tmp_path):
    ca = PrivateCa.create(tmp_path, "sts.test")
    (tmp_path / "token").write_text("jwt")
    for name in ("REGION", "PROVIDER_ID", "ROLE_ARN"):
        monkeypatch.setenv(f"TKE_{name}", "some")
    monkeypatch.setenv("TKE_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("HOME", str(tmp_path))
    role = {"Credentials": {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": "t"}, "ExpiredTime": 4e9}
    with ScriptedServer(json_reply({"Response": role}), tls=ca.server) as sts, Tunnel(sts.port) as proxy:
        monkeypatch.setenv("SSL_CERT_FILE", str(ca.file))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        credential = make_credential(connection(), never)
        credential._found.endpoint = "sts.test"
        assert credential.get_credential_info() == ("i", "k", "t")
        assert proxy.asked == ["sts.test:443"]
        assert sts.requests[0].headers["x-tc-action"] == "AssumeRoleWithWebIdentity"
        assert "jwt" in sts.requests[0].body.decode()


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


class Source:
    """A credential that counts how often it is asked, and blocks a little."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    def get_credential_info(self):
        self.asked += 1
        time.sleep(0.05)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_an_event_loop_keeps_keys_for_a_while():
    source = Source(("id", "key", None))

    async def use():
        keys = FreshKeys(source)
        for _ in range(5):
            await keys.renew()
        return keys.get_credential_info()

    assert asyncio.run(use()) == ("id", "key", None)
    assert source.asked == 1


def test_an_event_loop_looks_again_for_keys_that_may_have_ended(monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.credentials.LOOK_AGAIN", 0.0)

    async def use():
        keys = FreshKeys(Source(("old", "key", None), ("new", "key", None)))
        await keys.renew()
        await keys.renew()
        return keys.get_credential_info()

    assert asyncio.run(use())[0] == "new"


def test_many_who_need_keys_at_once_share_one_renewal():
    source = Source(("id", "key", None))

    async def use():
        keys = FreshKeys(source)
        await asyncio.gather(*(keys.renew() for _ in range(20)))

    asyncio.run(use())
    assert source.asked == 1


def test_a_renewal_that_failed_is_told_to_all_who_waited_and_tried_again():
    source = Source(MpsApiError("InternalError", "not now"), ("id", "key", None))

    async def use():
        keys = FreshKeys(source)
        failures = await asyncio.gather(*(keys.renew() for _ in range(3)), return_exceptions=True)
        await keys.renew()
        return failures, keys.get_credential_info()

    failures, keys = asyncio.run(use())
    assert [failure.message for failure in failures] == ["not now"] * 3
    assert keys == ("id", "key", None)
    assert source.asked == 2
