import asyncio
import json
import logging
import re
import threading

import pytest

from airflow_provider_mps.errors import (
    InvalidMpsConnectionError,
    MpsApiError,
)
from airflow_provider_mps.hooks.mps import MpsHook
from tests.answers import ACCEPTED, NO_RESPONSE, NOT_JSON
from tests.scripted_server import HANG, Reply, ScriptedServer, api_error, json_reply
from tests.tracebacks import printed

pytestmark = pytest.mark.usefixtures("no_waiting")


def test_a_missing_connection_is_an_error_that_names_it_and_is_not_retried(monkeypatch, calls):
    monkeypatch.delenv("AIRFLOW_CONN_MPS_DEFAULT", raising=False)
    with pytest.raises(InvalidMpsConnectionError, match=r"'mps_default'.*AIRFLOW_CONN_MPS_DEFAULT"):
        calls.describe()


def test_an_extra_that_is_no_object_is_an_error_that_names_the_connection(monkeypatch, calls):
    monkeypatch.setenv("AIRFLOW_CONN_MPS_DEFAULT", json.dumps({"conn_type": "tencent_mps", "extra": "[1]"}))
    with pytest.raises(InvalidMpsConnectionError, match="Extra"):
        calls.describe()


def test_nothing_secret_is_logged_even_at_debug(connect, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    with ScriptedServer(api_error("InternalError"), ACCEPTED) as server:
        connect(f"tencent-mps://some-id:SECRETKEY@127.0.0.1:{server.port}/http?token=SECRETTOKEN")
        with pytest.raises(MpsApiError):
            MpsHook().submit_text_to_speech("SECRETTEXT", "voice")
        MpsHook().submit_text_to_speech("SECRETTEXT", "voice")
        asyncio.run(MpsHook().asubmit_text_to_speech("SECRETTEXT", "voice"))
        signatures = [request.headers["authorization"].partition("Signature=")[2] for request in server.requests]
    # Airflow's own loggers write past the standard library's.
    logged = caplog.text + capsys.readouterr().out
    assert "task-1" in logged
    for secret in ["SECRETKEY", "SECRETTOKEN", "SECRETTEXT", *signatures]:
        assert secret not in logged


@pytest.mark.parametrize(
    ("reply", "works"),
    [
        (json_reply({"Response": {"Status": "fail", "ErrorCode": 1, "RequestId": "r"}}), True),
        (api_error("ResourceNotFound"), True),
        (api_error("InvalidParameterValue.TaskId"), True),
        (api_error("RequestLimitExceeded"), True),
        (api_error("AuthFailure.SignatureFailure"), False),
        (api_error("AuthFailure.TokenFailure"), False),
        (api_error("UnauthorizedOperation"), False),
        (api_error("InvalidAction"), False),
        (api_error("NoSuchVersion"), False),
        (api_error("UnsupportedRegion"), False),
        (NOT_JSON, False),
        (NO_RESPONSE, False),
        (Reply(b"<html>not here", 404), False),
        (HANG, False),
    ],
)
def test_the_connection_test_fails_only_where_the_sensor_could_not_ask(connect, reply, works):
    with ScriptedServer(reply) as server:
        connect(server.connection_uri(f"timeout={1.5 if reply is HANG else 20}"))
        ok, sentence = MpsHook().test_connection()
        assert ok is works
        assert sentence.endswith(".")
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("AuthFailure.SecretIdNotFound", r"Check Login \(SecretId\), and Host"),
        ("AuthFailure.SignatureFailure", r"Check Password \(SecretKey\)"),
        ("AuthFailure.TokenFailure", "Check the session token"),
        ("AuthFailure.SignatureExpire", "Check this machine's clock"),
        ("UnauthorizedOperation", "Grant the account this MPS action"),
        ("InvalidAction", "Check Host: what answers there is not the MPS API"),
    ],
)
def test_the_connection_test_says_which_of_key_token_clock_permission_or_host_is_wrong(connect, code, advice):
    with ScriptedServer(api_error(code)) as server:
        connect(server.connection_uri())
        assert re.search(advice, MpsHook().test_connection()[1])


def test_the_connection_test_names_the_host_that_accepted_the_keys(emulator):
    assert MpsHook().test_connection() == (
        True,
        f"MPS at 127.0.0.1:{emulator.port} accepted the credentials, and they may query text-to-speech tasks.",
    )


def test_the_connection_test_does_not_wait_as_long_as_a_request_may(monkeypatch, connect):
    monkeypatch.setattr("airflow_provider_mps.connection_test.TEST_TIMEOUT", 0.5)
    with ScriptedServer(HANG) as server:
        connect(server.connection_uri("timeout=3600"))
        ok, sentence = MpsHook().test_connection()
    assert not ok
    assert "Check Host (API domain)" in sentence


def test_the_connection_test_does_not_wait_for_what_has_no_time_out(monkeypatch, connect):
    monkeypatch.setattr("airflow_provider_mps.connection_test.TEST_TIMEOUT", 0.2)
    goes_on = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: goes_on.wait())
    connect("tencent-mps://id:key@no-such-host.invalid")
    try:
        ok, sentence = MpsHook().test_connection()
    finally:
        goes_on.set()
    assert not ok
    assert sentence == (
        "Connection 'mps_default': no-such-host.invalid gave no answer within 0.2 seconds. "
        "Check Host (API domain), Port, Schema (scheme) and Proxy, and the network."
    )


def test_the_connection_test_never_raises(monkeypatch):
    for uri in ("tencent-mps://id@host", "tencent-mps://id:key@127.0.0.1:1/http", "tencent-mps://id:key@h/?timeout=x"):
        monkeypatch.setenv("AIRFLOW_CONN_MPS_DEFAULT", uri)
        assert MpsHook().test_connection()[0] is False


def test_a_role_that_cannot_be_assumed_fails_the_connection_test_and_names_the_role(emulator, connect):
    connect(f"{emulator.connection_uri}&role_arn=nonsense")
    ok, sentence = MpsHook().test_connection()
    assert not ok
    assert "Check Role ARN" in sentence


def test_an_error_of_the_test_query_that_is_no_answer_about_a_task_disproves_the_connection(connect):
    with ScriptedServer(json_reply({"Response": {"hello": 1}})) as server:
        connect(server.connection_uri())
        assert MpsHook().test_connection()[0] is False


def test_a_server_that_repeats_a_requests_headers_gives_no_token_away(connect, calls):
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
def test_the_connection_test_quotes_no_key(connect, uri):
    connect(uri)
    ok, sentence = MpsHook().test_connection()
    assert not ok
    assert "examplekey" not in sentence.lower()
