import asyncio
import threading
import time
import traceback
from dataclasses import replace

import pytest

from airflow_provider_mps.call_retries import CHANGE_LOOK_UPS, wait_for_change
from airflow_provider_mps.connection import MpsConnection
from airflow_provider_mps.errors import (
    ErrorClass,
    InvalidMpsConnectionError,
    MpsApiError,
    MpsPermanentError,
)
from airflow_provider_mps.hooks.mps import MpsHook
from tests.answers import ACCEPTED, PROCESSING
from tests.scripted_server import ScriptedServer, api_error, json_reply

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.mark.parametrize("call", ["describe", "submit"])
def test_expired_credentials_are_renewed_once(connect, calls, call):
    with ScriptedServer(api_error("AuthFailure.TokenFailure")) as server:
        connect(server.connection_uri())
        with pytest.raises(MpsPermanentError):
            getattr(calls, call)()
        assert len(server.requests) == 2


def test_a_token_that_was_replaced_in_the_connection_assumes_the_role_again(connect, calls, monkeypatch):
    def serve(request):
        if request.headers.get("x-tc-token") == "old":
            connect(server.connection_uri("role_arn=arn&token=new"))
            return api_error("AuthFailure.TokenFailure")
        return role if request.headers["x-tc-action"] == "AssumeRole" else PROCESSING

    keys = {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": "t"}
    role = json_reply({"Response": {"Credentials": keys, "ExpiredTime": time.time() + 3600}})
    with ScriptedServer(serve) as server:
        connect(server.connection_uri("role_arn=arn&token=old"))
        assert calls.describe().request_id == "req-9"


def test_many_calls_with_expired_keys_renew_them_once(connect):
    keys = {"Credentials": {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": "t"}, "ExpiredTime": time.time() + 3600}
    roles = []

    def serve(request):
        if request.headers["x-tc-action"] == "AssumeRole":
            roles.append({**keys, "Credentials": {**keys["Credentials"], "Token": f"token-{len(roles)}"}})
            return json_reply({"Response": roles[-1]})
        return PROCESSING if request.headers["x-tc-token"] == "token-1" else api_error("AuthFailure.TokenFailure")

    async def many():
        hook = MpsHook()
        tasks = await asyncio.gather(*(hook.adescribe_text_to_speech_task(f"task-{i}") for i in range(10)))
        await hook.aclose()
        return len(tasks)

    with ScriptedServer(serve) as server:
        connect(server.connection_uri("role_arn=arn"))
        assert asyncio.run(many()) == 10
    assert len(roles) == 2


def test_renewing_temporary_keys_does_not_block_the_event_loop(connect):
    answered, went_on = threading.Event(), []

    def slow_role(_):
        went_on.append(answered.wait(20))
        return json_reply(
            {
                "Response": {
                    "Credentials": {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": "t"},
                    "ExpiredTime": time.time() + 3600,
                }
            }
        )

    async def ask():
        query = asyncio.create_task(MpsHook().adescribe_text_to_speech_task("task-1"))
        while not server.requests:
            await asyncio.sleep(0.01)
        answered.set()  # reached too late where the loop is blocked
        return await query

    with ScriptedServer(slow_role, PROCESSING) as server:
        connect(server.connection_uri("timeout=60&role_arn=arn"))
        assert asyncio.run(ask()).request_id == "req-9"
        assert server.requests[0].headers["x-tc-action"] == "AssumeRole"
    assert went_on == [True]


@pytest.mark.parametrize("secret_key", ["SECRET\nKEY", "SECRETKEY€"])
def test_a_secret_that_no_header_can_hold_is_not_quoted(emulator, calls, monkeypatch, connect, secret_key):
    # From the environment, where no form has checked it.
    connect(emulator.connection_uri.replace("emulator-id:emulator-key@", ""))
    monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", secret_key)
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", secret_key)
    with pytest.raises(InvalidMpsConnectionError, match="character that no HTTP header can hold") as caught:
        calls.submit()
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_renewing_credentials_leaves_other_calls_in_flight_alone(connect):
    refreshed = threading.Event()

    def serve(request):
        if request.headers["x-tc-action"] == "TextToSpeechAsync":
            assert refreshed.wait(30)
            return ACCEPTED
        return api_error("AuthFailure.TokenFailure") if len(server.requests) < 4 else PROCESSING

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
def test_a_role_without_usable_keys_was_not_sent_and_says_so(connect, calls, credentials):
    with ScriptedServer(json_reply({"Response": {"Credentials": credentials, "RequestId": "req-5"}})) as server:
        connect(server.connection_uri("role_arn=arn"))
        with pytest.raises(MpsApiError, match=r"without usable keys.*req-5") as caught:
            calls.submit()
    assert caught.value.error_class is ErrorClass.NOT_SENT


def test_a_submit_whose_role_may_not_be_assumed_was_never_sent(connect, calls):
    with ScriptedServer(api_error("UnauthorizedOperation")) as server:
        connect(server.connection_uri("role_arn=arn"))
        with pytest.raises(InvalidMpsConnectionError, match="Assuming the role") as caught:
            calls.submit()
        assert {request.headers["x-tc-action"] for request in server.requests} == {"AssumeRole"}
    assert "unknown" not in str(caught.value)


@pytest.mark.parametrize("call", ["describe", "submit"])
@pytest.mark.parametrize("replaced_after", [1, 2])
def test_key_that_is_replaced_while_it_is_refused_is_used(connect, calls, call, replaced_after):
    def serve(request):
        if "new-id" in request.headers["authorization"]:
            return ACCEPTED if request.headers["x-tc-action"] == "TextToSpeechAsync" else PROCESSING
        if len(server.requests) == replaced_after:
            connect(server.connection_uri().replace("some-id", "new-id"))
        return api_error("AuthFailure.SecretIdNotFound")

    with ScriptedServer(serve) as server:
        connect(server.connection_uri())
        getattr(calls, call)()
        assert len(server.requests) == replaced_after + 1


def test_connection_that_is_incomplete_while_a_key_is_replaced_is_looked_up_again():
    connection = MpsConnection("mps_default", "mps.invalid", secret_id="some-id", secret_key="key")
    outcomes = [InvalidMpsConnectionError("Password is empty"), connection, replace(connection, secret_id="new-id")]

    def look_up():
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert wait_for_change(look_up, connection)
    assert outcomes == []


def test_connection_that_does_not_change_is_given_up():
    connection = MpsConnection("mps_default", "mps.invalid", secret_id="some-id", secret_key="key")
    looks = []

    def look_up():
        looks.append(connection)
        return connection

    assert not wait_for_change(look_up, connection)
    assert len(looks) == CHANGE_LOOK_UPS
    assert not wait_for_change(look_up, MpsConnection("mps_default", "mps.invalid"))
    assert len(looks) == CHANGE_LOOK_UPS


@pytest.mark.parametrize("fault", [ImportError("cannot import name 'x'"), ValueError("http://user:pass@host")])
def test_client_that_cannot_be_made_is_named_without_secrets(connect, calls, monkeypatch, fault):
    def fail(*_, **__):
        raise fault

    monkeypatch.setattr("airflow_provider_mps.client.ClientProfile", fail)
    connect("tencent-mps://id:key@mps.invalid/http")
    with pytest.raises(InvalidMpsConnectionError, match=type(fault).__name__) as caught:
        calls.describe()
    assert "pass@" not in "".join(traceback.format_exception(caught.value))
