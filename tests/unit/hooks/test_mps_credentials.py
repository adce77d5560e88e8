import asyncio
import threading
import time
import traceback
from dataclasses import replace

import pytest

from airflow_provider_mps.api.connection import MpsConnection
from airflow_provider_mps.api.retry import MAX_CHANGE_LOOKUPS, wait_for_connection_change
from airflow_provider_mps.error_codes import ErrorClass
from airflow_provider_mps.exceptions import InvalidMpsConnectionError, MpsApiError, MpsPermanentError
from airflow_provider_mps.hooks.mps import MpsHook
from tests.answers import ACCEPTED, PROCESSING
from tests.scripted_server import ScriptedServer, make_api_error, make_json_reply

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.mark.parametrize("call", ["describe", "submit"])
def test_expired_credentials_are_refreshed_once(connect, calls, call):
    with ScriptedServer(make_api_error("AuthFailure.TokenFailure")) as server:
        connect(server.connection_uri())
        with pytest.raises(MpsPermanentError):
            getattr(calls, call)()
        assert len(server.requests) == 2


def test_replaced_token_assumes_role_again(connect, calls, monkeypatch):
    def serve(request):
        if request.headers.get("x-tc-token") == "old":
            connect(server.connection_uri("role_arn=arn&token=new"))
            return make_api_error("AuthFailure.TokenFailure")
        return role if request.headers["x-tc-action"] == "AssumeRole" else PROCESSING

    keys = {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": "t"}
    role = make_json_reply({"Response": {"Credentials": keys, "ExpiredTime": time.time() + 3600}})
    with ScriptedServer(serve) as server:
        connect(server.connection_uri("role_arn=arn&token=old"))
        assert calls.describe().request_id == "req-9"


def test_concurrent_calls_refresh_expired_keys_once(connect):
    keys = {"Credentials": {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": "t"}, "ExpiredTime": time.time() + 3600}
    roles = []

    def serve(request):
        if request.headers["x-tc-action"] == "AssumeRole":
            roles.append({**keys, "Credentials": {**keys["Credentials"], "Token": f"token-{len(roles)}"}})
            return make_json_reply({"Response": roles[-1]})
        return PROCESSING if request.headers["x-tc-token"] == "token-1" else make_api_error("AuthFailure.TokenFailure")

    async def many():
        hook = MpsHook()
        tasks = await asyncio.gather(*(hook.adescribe_text_to_speech_task(f"task-{i}") for i in range(10)))
        await hook.aclose()
        return len(tasks)

    with ScriptedServer(serve) as server:
        connect(server.connection_uri("role_arn=arn"))
        assert asyncio.run(many()) == 10
    assert len(roles) == 2


def test_refresh_does_not_block_event_loop(connect):
    loop_runs, results = threading.Event(), []

    def slow_role(_):
        results.append(loop_runs.wait(20))
        return make_json_reply(
            {
                "Response": {
                    "Credentials": {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": "t"},
                    "ExpiredTime": time.time() + 3600,
                }
            }
        )

    async def query():
        query = asyncio.create_task(MpsHook().adescribe_text_to_speech_task("task-1"))
        while not server.requests:
            await asyncio.sleep(0.01)
        loop_runs.set()  # too late if the refresh blocks the loop
        return await query

    with ScriptedServer(slow_role, PROCESSING) as server:
        connect(server.connection_uri("timeout=60&role_arn=arn"))
        assert asyncio.run(query()).request_id == "req-9"
        assert server.requests[0].headers["x-tc-action"] == "AssumeRole"
    assert results == [True]


@pytest.mark.parametrize("secret_key", ["SECRET\nKEY", "SECRETKEY€"])
def test_secret_with_invalid_characters_is_not_quoted(emulator, calls, monkeypatch, connect, secret_key):
    # From the environment, which the connection's parser does not check.
    connect(emulator.connection_uri.replace("emulator-id:emulator-key@", ""))
    monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", secret_key)
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", secret_key)
    with pytest.raises(InvalidMpsConnectionError, match="character that no HTTP header can hold") as caught:
        calls.submit()
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_refresh_does_not_affect_calls_in_flight(connect):
    refreshed = threading.Event()

    def serve(request):
        if request.headers["x-tc-action"] == "TextToSpeechAsync":
            assert refreshed.wait(30)
            return ACCEPTED
        return make_api_error("AuthFailure.TokenFailure") if len(server.requests) < 4 else PROCESSING

    async def describe(hook):
        try:
            await hook.adescribe_text_to_speech_task("task-1")
        finally:
            refreshed.set()

    async def both():
        hook = MpsHook()
        submitted, _described = await asyncio.gather(
            hook.asubmit_text_to_speech("hello", "voice"),
            describe(hook),
            return_exceptions=True,
        )
        await hook.aclose()
        return submitted

    with ScriptedServer(serve) as server:
        connect(server.connection_uri("timeout=60"))
        assert asyncio.run(both()) == "task-1"


@pytest.mark.parametrize("credentials", [None, {}, {"TmpSecretId": None}])
def test_submit_with_role_without_keys_is_not_sent(connect, calls, credentials):
    with ScriptedServer(make_json_reply({"Response": {"Credentials": credentials, "RequestId": "req-5"}})) as server:
        connect(server.connection_uri("role_arn=arn"))
        with pytest.raises(MpsApiError, match=r"without usable keys.*req-5") as caught:
            calls.submit()
    assert caught.value.error_class is ErrorClass.NOT_SENT


def test_submit_with_forbidden_role_is_not_sent(connect, calls):
    with ScriptedServer(make_api_error("UnauthorizedOperation")) as server:
        connect(server.connection_uri("role_arn=arn"))
        with pytest.raises(InvalidMpsConnectionError, match="Assuming the role") as caught:
            calls.submit()
        assert {request.headers["x-tc-action"] for request in server.requests} == {"AssumeRole"}
    assert "unknown" not in str(caught.value)


@pytest.mark.parametrize("call", ["describe", "submit"])
@pytest.mark.parametrize("replaced_after", [1, 2])
def test_key_replaced_after_rejection_is_used(connect, calls, call, replaced_after):
    def serve(request):
        if "new-id" in request.headers["authorization"]:
            return ACCEPTED if request.headers["x-tc-action"] == "TextToSpeechAsync" else PROCESSING
        if len(server.requests) == replaced_after:
            connect(server.connection_uri().replace("some-id", "new-id"))
        return make_api_error("AuthFailure.SecretIdNotFound")

    with ScriptedServer(serve) as server:
        connect(server.connection_uri())
        getattr(calls, call)()
        assert len(server.requests) == replaced_after + 1


def test_wait_for_change_ignores_invalid_connection():
    connection = MpsConnection("mps_default", "mps.invalid", secret_id="some-id", secret_key="key")
    outcomes = [InvalidMpsConnectionError("Password is empty"), connection, replace(connection, secret_id="new-id")]

    def get_mps_connection():
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert wait_for_connection_change(get_mps_connection, connection)
    assert outcomes == []


def test_wait_for_change_gives_up():
    connection = MpsConnection("mps_default", "mps.invalid", secret_id="some-id", secret_key="key")
    lookups = []

    def get_mps_connection():
        lookups.append(connection)
        return connection

    assert not wait_for_connection_change(get_mps_connection, connection)
    assert len(lookups) == MAX_CHANGE_LOOKUPS
    assert not wait_for_connection_change(get_mps_connection, MpsConnection("mps_default", "mps.invalid"))
    assert len(lookups) == MAX_CHANGE_LOOKUPS


@pytest.mark.parametrize("fault", [ImportError("cannot import name 'x'"), ValueError("http://user:pass@host")])
def test_client_setup_error_names_type_without_secrets(connect, calls, monkeypatch, fault):
    def fail(*_, **__):
        raise fault

    monkeypatch.setattr("airflow_provider_mps.api.client.ClientProfile", fail)
    connect("tencent-mps://id:key@mps.invalid/http")
    with pytest.raises(InvalidMpsConnectionError, match=type(fault).__name__) as caught:
        calls.describe()
    assert "pass@" not in "".join(traceback.format_exception(caught.value))
