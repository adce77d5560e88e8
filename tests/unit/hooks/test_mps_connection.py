import asyncio
import json
import logging
import re
import threading

import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_provider_mps.exceptions import InvalidMpsConnectionError, MpsApiError
from airflow_provider_mps.hooks.mps import MpsHook
from tests.answers import ACCEPTED, NO_RESPONSE, NOT_JSON
from tests.scripted_server import HANG, Reply, ScriptedServer, make_api_error, make_json_reply
from tests.tracebacks import printed

pytestmark = pytest.mark.usefixtures("no_waiting")


def test_missing_connection_raises_and_names_it(monkeypatch, calls):
    monkeypatch.delenv("AIRFLOW_CONN_MPS_DEFAULT", raising=False)
    with pytest.raises(InvalidMpsConnectionError, match=r"'mps_default'.*AIRFLOW_CONN_MPS_DEFAULT"):
        calls.describe()


def test_subclass_can_override_get_connection():
    with ScriptedServer(ACCEPTED) as server:

        class OtherHook(MpsHook):
            @classmethod
            def get_connection(cls, conn_id):
                return Connection(conn_id=conn_id, conn_type="tencent_mps", host=server.url, login="id", password="key")

        assert OtherHook().submit_text_to_speech("hello", "voice") == "task-1"
        assert OtherHook().test_connection()[1].startswith("MPS at 127.0.0.1")


def test_subclass_can_override_aget_connection():
    with ScriptedServer(ACCEPTED) as server:

        class OtherHook(MpsHook):
            @classmethod
            async def aget_connection(cls, conn_id):
                return Connection(conn_id=conn_id, conn_type="tencent_mps", host=server.url, login="id", password="key")

        assert asyncio.run(OtherHook().asubmit_text_to_speech("hello", "voice")) == "task-1"


def test_extra_without_object_raises(monkeypatch, calls):
    monkeypatch.setenv("AIRFLOW_CONN_MPS_DEFAULT", json.dumps({"conn_type": "tencent_mps", "extra": "[1]"}))
    with pytest.raises(InvalidMpsConnectionError, match="Extra"):
        calls.describe()


def test_debug_log_contains_no_secret(connect, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    with ScriptedServer(make_api_error("InternalError"), ACCEPTED) as server:
        connect(f"tencent-mps://some-id:SECRETKEY@127.0.0.1:{server.port}/http?token=SECRETTOKEN")
        with pytest.raises(MpsApiError):
            MpsHook().submit_text_to_speech("SECRETTEXT", "voice")
        MpsHook().submit_text_to_speech("SECRETTEXT", "voice")
        asyncio.run(MpsHook().asubmit_text_to_speech("SECRETTEXT", "voice"))
        signatures = [request.headers["authorization"].partition("Signature=")[2] for request in server.requests]
    # Airflow's loggers do not write to those of the standard library.
    logged = caplog.text + capsys.readouterr().out
    assert "task-1" in logged
    for secret in ["SECRETKEY", "SECRETTOKEN", "SECRETTEXT", *signatures]:
        assert secret not in logged


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (make_json_reply({"Response": {"Status": "fail", "ErrorCode": 1, "RequestId": "r"}}), True),
        (make_api_error("ResourceNotFound"), True),
        (make_api_error("InvalidParameterValue.TaskId"), True),
        (make_api_error("RequestLimitExceeded"), True),
        (make_api_error("AuthFailure.SignatureFailure"), False),
        (make_api_error("AuthFailure.TokenFailure"), False),
        (make_api_error("UnauthorizedOperation"), False),
        (make_api_error("InvalidAction"), False),
        (make_api_error("NoSuchVersion"), False),
        (make_api_error("UnsupportedRegion"), False),
        (NOT_JSON, False),
        (NO_RESPONSE, False),
        (Reply(b"<html>not here", 404), False),
        (HANG, False),
    ],
)
def test_connection_test_fails_only_for_connection_errors(connect, reply, expected):
    with ScriptedServer(reply) as server:
        connect(server.connection_uri(f"timeout={1.5 if reply is HANG else 20}"))
        is_ok, message = MpsHook().test_connection()
        assert is_ok is expected
        assert message.endswith(".")
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("AuthFailure.SecretIdNotFound", r"Check Login \(SecretId\) and Host \(API domain\)"),
        ("AuthFailure.SignatureFailure", r"Check Password \(SecretKey\)"),
        ("AuthFailure.TokenFailure", "Check the session token"),
        ("AuthFailure.SignatureExpire", "Check this machine's clock"),
        ("UnauthorizedOperation", "Grant the account this MPS action"),
        ("InvalidAction", r"Check Host \(API domain\): the server there is not the MPS API"),
    ],
)
def test_connection_test_gives_advice_for_error_code(connect, code, advice):
    with ScriptedServer(make_api_error(code)) as server:
        connect(server.connection_uri())
        assert re.search(advice, MpsHook().test_connection()[1])


def test_connection_test_success_names_host(emulator):
    assert MpsHook().test_connection() == (
        True,
        f"MPS at 127.0.0.1:{emulator.port} accepted the credentials, which may query text-to-speech tasks. "
        "Submitting was not tested, because MPS bills it.",
    )


@pytest.mark.parametrize("code", ["ResourceNotFound", "InvalidParameterValue.TaskId"])
def test_connection_test_succeeds_if_only_the_task_is_unknown(connect, code):
    with ScriptedServer(make_api_error(code)) as server:
        connect(server.connection_uri())
        is_ok, message = MpsHook().test_connection()
    assert is_ok
    assert "accepted the credentials" in message


@pytest.mark.parametrize("code", ["FailedOperation.UserArrears", "LimitExceeded.Something"])
def test_connection_test_fails_if_every_submit_would(connect, code):
    with ScriptedServer(make_api_error(code)) as server:
        connect(server.connection_uri())
        is_ok, message = MpsHook().test_connection()
    assert not is_ok
    assert message.startswith(f"MPS at 127.0.0.1:{server.port}: {code}: ")


@pytest.mark.parametrize(
    "code", ["InternalError", "RequestLimitExceeded", "SomethingNew", "UnsupportedOperation", "UnknownParameter"]
)
def test_connection_test_says_if_it_is_inconclusive(connect, code):
    with ScriptedServer(make_api_error(code)) as server:
        connect(server.connection_uri())
        is_ok, message = MpsHook().test_connection()
    assert is_ok
    assert re.match(
        r"MPS did not reject the credentials, but the test is inconclusive: repeat it later\. "
        rf"MPS at 127\.0\.0\.1:{server.port}: {code}: ",
        message,
    )


def test_connection_test_limits_request_timeout(monkeypatch, connect):
    monkeypatch.setattr("airflow_provider_mps.api.connection_lookup.TEST_TIMEOUT_SECONDS", 0.5)
    with ScriptedServer(HANG) as server:
        connect(server.connection_uri("timeout=3600"))
        is_ok, message = MpsHook().test_connection()
    assert not is_ok
    assert "Check Host (API domain)" in message


def test_connection_test_limits_name_lookup(monkeypatch, connect):
    monkeypatch.setattr("airflow_provider_mps.api.connection_lookup.TEST_TIMEOUT_SECONDS", 0.2)
    released = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: released.wait())
    connect("tencent-mps://id:key@no-such-host.invalid")
    try:
        is_ok, message = MpsHook().test_connection()
    finally:
        released.set()
    assert not is_ok
    assert message == (
        "MPS at no-such-host.invalid did not respond within 0.2 seconds. "
        "Check Host (API domain), Port, Schema (scheme) and Proxy, and the network."
    )


def test_connection_test_never_raises(monkeypatch):
    for uri in ("tencent-mps://id@host", "tencent-mps://id:key@127.0.0.1:1/http", "tencent-mps://id:key@h/?timeout=x"):
        monkeypatch.setenv("AIRFLOW_CONN_MPS_DEFAULT", uri)
        assert MpsHook().test_connection()[0] is False


def test_connection_test_with_invalid_role_fails(emulator, connect):
    connect(f"{emulator.connection_uri}&role_arn=nonsense")
    is_ok, message = MpsHook().test_connection()
    assert not is_ok
    assert "Check Role ARN" in message


def test_connection_test_with_invalid_response_fails(connect):
    with ScriptedServer(make_json_reply({"Response": {"hello": 1}})) as server:
        connect(server.connection_uri())
        assert MpsHook().test_connection()[0] is False


def test_error_with_repeated_headers_hides_token(connect, calls):
    echo = (
        b'{"headers": {"X-Tc-Token": "SECRETTOKEN", "Authorization": "TC3-HMAC-SHA256 Credential=a, Signature=SECRET"}}'
    )
    for reply in (Reply(echo, 200), Reply(echo, 404), Reply(b"X-TC-Token: SECRETTOKEN\n", 502)):
        with ScriptedServer(reply) as server:
            connect(server.connection_uri("token=SECRETTOKEN"))
            with pytest.raises(MpsApiError) as caught:
                calls.describe()
            assert "SECRET" not in printed(caught.value)


@pytest.mark.parametrize(
    "uri", ["tencent_mps://AKIDexample:exampleKey@127.0.0.1:1/?region=r", "tencent-mps://exampleKey@127.0.0.1:1/http"]
)
def test_connection_test_quotes_no_key(connect, uri):
    connect(uri)
    is_ok, message = MpsHook().test_connection()
    assert not is_ok
    assert "examplekey" not in message.lower()
