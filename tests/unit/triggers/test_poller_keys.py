"""The shared poll loop: keys that are wrong, end, or cannot be had for now."""

import asyncio
import itertools
import logging
import threading
import time
import traceback
from types import SimpleNamespace

import pytest

from airflow_provider_mps import credential_gate
from airflow_provider_mps.credential_gate import CredentialGate
from airflow_provider_mps.errors import (
    InvalidMpsConnectionError,
    MpsApiError,
    MpsPermanentError,
)
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.text_to_speech import TaskStatus
from airflow_provider_mps.triggers.poller import wait_for_task
from tests.answers import PROCESSING
from tests.scripted_server import HANG, ScriptedServer, api_error, json_reply
from tests.waiting import FAST, SUCCESS, names, wait_all

QUICK = SimpleNamespace(after_errors=lambda *_: 0.02)


def test_a_wrong_key_ends_it_for_all_at_once_with_one_warning(connect, told):
    with ScriptedServer(api_error("AuthFailure.SignatureFailure")) as server:
        connect(server.connection_uri("requests_per_second=100"))
        outcomes = asyncio.run(wait_all(*names(300)))
        assert len(server.requests) < 100
    assert {type(error) for error in outcomes} == {MpsPermanentError}
    assert all("Check Password (SecretKey)" in str(error) for error in outcomes)
    assert len(traceback.extract_tb(outcomes[-1].__traceback__)) < 10  # it does not grow with each who raises it
    (warning,) = told(logging.WARNING)
    assert "300 stop waiting" in warning


def test_one_refusal_of_the_key_ends_it_for_nobody(connect, told):
    refusals = [api_error("AuthFailure.SecretIdNotFound")]
    with ScriptedServer(lambda _: refusals.pop() if refusals else SUCCESS) as server:
        connect(server.connection_uri())
        outcomes = asyncio.run(wait_all(*names(20)))
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    assert told(logging.WARNING) == []


def test_a_missing_connection_ends_it_for_all(monkeypatch, airflow_database, told):
    monkeypatch.delenv("AIRFLOW_CONN_MPS_DEFAULT", raising=False)
    outcomes = asyncio.run(wait_all(*names(5), mps_conn_id="no_such_conn"))
    assert {type(error) for error in outcomes} == {InvalidMpsConnectionError}
    assert "no_such_conn" in str(outcomes[0])
    assert len(told(logging.WARNING)) == 1


def test_whoever_comes_after_a_wrong_key_looks_at_the_connection_anew(emulator, connect):
    task_id = MpsHook().submit_text_to_speech("hello", "voice")

    async def before_and_after():
        connect(emulator.connection_uri.replace("emulator-key", "wrong-key"))
        (error,) = await wait_all(task_id)
        connect(emulator.connection_uri)
        (task,) = await wait_all(task_id)
        return error, task

    error, task = asyncio.run(before_and_after())
    assert isinstance(error, MpsApiError)
    assert task.status is TaskStatus.SUCCESS


def test_a_key_that_is_replaced_in_the_connection_while_tasks_wait_is_used(connect, told):
    def answer(request):
        connect(server.connection_uri().replace("some-id", "new-id"))
        return api_error("AuthFailure.SecretIdNotFound") if "some-id" in request.headers["authorization"] else SUCCESS

    with ScriptedServer(answer) as server:
        connect(server.connection_uri())
        outcomes = asyncio.run(wait_all(*names(20)))
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    assert told(logging.WARNING) == []


def test_temporary_keys_that_end_while_tasks_wait_are_renewed_off_the_event_loop(connect):
    roles, went_on = [], []

    def serve(request):
        if request.headers["x-tc-action"] == "AssumeRole":
            answered = threading.Event()
            loop.call_soon_threadsafe(answered.set)  # reached too late where the loop is blocked
            went_on.append(answered.wait(20))
            roles.append(f"token-{len(roles)}")
            keys = {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": roles[-1]}
            return json_reply({"Response": {"Credentials": keys, "ExpiredTime": time.time() + 3600}})
        if request.headers["x-tc-token"] != "token-1":
            return api_error("AuthFailure.TokenFailure")
        return SUCCESS

    async def main():
        nonlocal loop
        loop = asyncio.get_running_loop()
        return await wait_all(*names(20))

    loop = None
    with ScriptedServer(serve) as server:
        connect(server.connection_uri("timeout=60&role_arn=arn"))
        outcomes = asyncio.run(main())
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    assert roles == ["token-0", "token-1"]
    assert went_on == [True, True]


def test_keys_may_end_again_and_again_as_long_as_the_new_ones_work(connect, told):
    answers = [PROCESSING, api_error("AuthFailure.TokenFailure")] * 6
    with ScriptedServer(*answers, SUCCESS) as server:
        connect(server.connection_uri())
        (task,) = asyncio.run(wait_all("task-1"))
        assert len(server.requests) == 13
    assert task.status is TaskStatus.SUCCESS
    assert told(logging.WARNING) == []


def test_a_key_that_is_refused_after_its_connection_was_deleted_says_that_it_is_gone(connect, monkeypatch):
    look_up, looks = MpsHook._alook_up, []

    async def only_once(hook):
        looks.append(hook)
        if len(looks) > 1:
            monkeypatch.delenv("AIRFLOW_CONN_MPS_DEFAULT", raising=False)
        return await look_up(hook)

    monkeypatch.setattr(MpsHook, "_alook_up", only_once)
    with ScriptedServer(api_error("AuthFailure.SecretIdNotFound")) as server:
        connect(server.connection_uri())
        outcomes = asyncio.run(wait_all(*names(10)))
    assert {type(error) for error in outcomes} == {InvalidMpsConnectionError}
    assert "does not exist" in str(outcomes[0])


@pytest.mark.parametrize("when", ["at first", "while tasks wait"])
def test_a_connection_that_cannot_be_looked_up_for_now_is_waited_for(connect, monkeypatch, told, when):
    look_up, looks = MpsHook._alook_up, []

    async def stumble(hook):
        looks.append(hook)
        if (len(looks) <= 2) if when == "at first" else (len(looks) == 2):
            raise RuntimeError("the secrets backend is down")
        return await look_up(hook)

    monkeypatch.setattr(MpsHook, "_alook_up", stumble)
    refusals = [] if when == "at first" else [api_error("AuthFailure.TokenFailure")]
    with ScriptedServer(lambda _: refusals.pop() if refusals else SUCCESS) as server:
        connect(server.connection_uri())
        outcomes = asyncio.run(wait_all(*names(10)))
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    assert all("still trying: the secrets backend is down" in line for line in told(logging.WARNING))
    assert len(told(logging.WARNING)) == (2 if when == "at first" else 1)


def test_a_look_up_that_never_works_is_given_up(monkeypatch):
    async def stumble(_):
        raise RuntimeError("the secrets backend is gone")

    monkeypatch.setattr(MpsHook, "_alook_up", stumble)
    monkeypatch.setattr(credential_gate, "_BACKOFF", QUICK)
    monkeypatch.setattr(credential_gate, "MAX_FAILURES", 2)
    outcomes = asyncio.run(wait_all(*names(3)))
    assert all("is gone" in repr(error) for error in outcomes)


def test_error_of_a_secrets_backend_is_logged_and_raised_without_its_password(monkeypatch, caplog):
    async def stumble(_):
        raise RuntimeError("POST https://vault:SECRET@vault.example/v1?token=SECRET failed")

    monkeypatch.setattr(MpsHook, "_alook_up", stumble)
    monkeypatch.setattr(credential_gate, "_BACKOFF", QUICK)
    monkeypatch.setattr(credential_gate, "MAX_FAILURES", 2)
    (error,) = asyncio.run(wait_all(*names(1)))
    assert "vault.example" in str(error)
    assert "SECRET" not in caplog.text + "".join(traceback.format_exception(error))


def test_keys_that_take_long_to_renew_hold_up_nobody_else(connect):
    left, answered = threading.Event(), []

    def hold(_):
        answered.append(left.wait(60))
        return HANG

    with ScriptedServer(hold) as sts:
        connect(sts.connection_uri("timeout=60&role_arn=arn"))

        async def beside():
            waits = [asyncio.create_task(wait_for_task(name, FAST)) for name in names(30)]
            while not sts.requests:
                await asyncio.sleep(0.01)
            async with asyncio.timeout(30):
                await asyncio.gather(*(asyncio.to_thread(time.sleep, 0) for _ in range(20)))
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)
            assert len(sts.requests) == 1

        asyncio.run(beside())
        assert answered == []  # the loop's end waits for no renewal either
        left.set()


def test_a_role_that_cannot_be_assumed_for_now_is_waited_for(connect):
    broken = [api_error("InternalError"), api_error("RequestLimitExceeded")]

    def serve(request):
        if request.headers["x-tc-action"] != "AssumeRole":
            return SUCCESS
        if broken:
            return broken.pop()
        keys = {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": "t"}
        return json_reply({"Response": {"Credentials": keys, "ExpiredTime": time.time() + 3600}})

    with ScriptedServer(serve) as server:
        connect(server.connection_uri("role_arn=arn"))
        outcomes = asyncio.run(wait_all(*names(3)))
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}


def test_a_late_refusal_of_keys_that_were_replaced_is_no_further_one(connect, told, monkeypatch):
    numbers, third, judged = itertools.count(1), threading.Event(), []
    judge = CredentialGate.judge

    def note(gate, permit, error=None):
        judge(gate, permit, error)
        judged.append(error)

    def serve(_):
        number = next(numbers)
        if number == 1:
            third.wait(30)
        if number == 3:  # with refreshed keys; meanwhile the first, signed with the old ones, is refused
            third.set()
            while len(judged) < 2:
                time.sleep(0.01)
        return SUCCESS if number >= 3 else api_error("AuthFailure.TokenFailure")

    monkeypatch.setattr(CredentialGate, "judge", note)
    with ScriptedServer(serve) as server:
        connect(server.connection_uri("timeout=60&requests_per_second=10"))
        outcomes = asyncio.run(wait_all(*names(2)))
        assert len(server.requests) == 4
    assert {getattr(outcome, "status", outcome) for outcome in outcomes} == {TaskStatus.SUCCESS}
    assert told(logging.WARNING) == []


def test_key_that_dies_before_its_connection_is_edited_fails_no_task(connect, monkeypatch):
    monkeypatch.setattr(credential_gate, "_BACKOFF", QUICK)
    monkeypatch.setattr(credential_gate, "FIRST_USE_GRACE_SECONDS", 30.0)

    def answer(request):
        if "new-id" in request.headers["authorization"]:
            return SUCCESS
        if len(server.requests) == 20:  # more than are under way at once: some are probes
            connect(server.connection_uri("requests_per_second=300").replace("some-id", "new-id"))
        return api_error("AuthFailure.SecretIdNotFound")

    with ScriptedServer(answer) as server:
        connect(server.connection_uri("requests_per_second=300"))
        outcomes = asyncio.run(wait_all(*names(20)))
    assert {getattr(outcome, "status", outcome) for outcome in outcomes} == {TaskStatus.SUCCESS}


def test_role_whose_own_keys_are_replaced_fails_no_task(connect, monkeypatch):
    monkeypatch.setattr(credential_gate, "_BACKOFF", QUICK)
    monkeypatch.setattr(credential_gate, "FIRST_USE_GRACE_SECONDS", 30.0)
    refused = []

    def answer(request):
        if request.headers["x-tc-action"] != "AssumeRole":
            return SUCCESS
        if "new-id" in request.headers["authorization"]:
            keys = {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": "t"}
            return json_reply({"Response": {"Credentials": keys, "ExpiredTime": time.time() + 3600}})
        refused.append(request)
        if len(refused) == 5:
            connect(server.connection_uri("role_arn=arn").replace("some-id", "new-id"))
        return api_error("AuthFailure.SecretIdNotFound")

    with ScriptedServer(answer) as server:
        connect(server.connection_uri("role_arn=arn"))
        outcomes = asyncio.run(wait_all(*names(5)))
    assert {getattr(outcome, "status", outcome) for outcome in outcomes} == {TaskStatus.SUCCESS}
    assert len(refused) == 5


@pytest.mark.parametrize(
    ("error", "quoted"),
    [
        (ImportError("cannot import name 'x' from 'tencentcloud.common'"), "ImportError: cannot import name"),
        (FileNotFoundError(2, "No such file or directory"), "failed with FileNotFoundError"),
        (ValueError("Unknown scheme for proxy URL 'ftp://user:pass@host'"), "failed with ValueError"),
        (TypeError("an older SDK"), "failed with TypeError"),
    ],
)
def test_client_that_cannot_be_made_ends_it_for_all_at_once(connect, monkeypatch, told, error, quoted):
    attempts = []

    def fail(*_, **__):
        attempts.append(error)
        raise error

    monkeypatch.setattr("airflow_provider_mps.client.ClientProfile", fail)
    connect("tencent-mps://id:key@mps.invalid/http")
    outcomes = asyncio.run(wait_all(*names(5)))
    assert len(attempts) == 1
    assert {type(outcome) for outcome in outcomes} == {InvalidMpsConnectionError}
    assert quoted in str(outcomes[0])
    assert "mps_default" in str(outcomes[0])
    assert "pass@" not in "".join(traceback.format_exception(outcomes[0]))
    assert len(told(logging.WARNING)) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("SSL_CERT_FILE", "/no/such/ca.pem"), ("ALL_PROXY", "ftp://user:secret@127.0.0.1:1"), ("NO_PROXY", "[::1")],
)
def test_odd_environment_does_not_leave_tasks_waiting(connect, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        (outcome,) = asyncio.run(wait_all("task-1"))
    # Where the variable is of no effect, the task is polled.
    assert isinstance(outcome, InvalidMpsConnectionError) or outcome.status is TaskStatus.SUCCESS
    assert "secret" not in str(outcome)
