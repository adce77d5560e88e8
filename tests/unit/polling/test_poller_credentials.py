"""The shared poll loop with credentials that are wrong, expire, or are unavailable for a while."""

import asyncio
import itertools
import logging
import threading
import time
import traceback
from types import SimpleNamespace

import pytest

from airflow_provider_mps.exceptions import InvalidMpsConnectionError, MpsApiError, MpsPermanentError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.polling import intervals, request_gate
from airflow_provider_mps.polling.poller import wait_for_task
from airflow_provider_mps.polling.request_gate import RequestGate
from airflow_provider_mps.speech.task import TaskStatus
from tests.answers import PROCESSING
from tests.scripted_server import HANG, ScriptedServer, make_api_error, make_json_reply
from tests.waiting import FAST, SUCCESS, names, wait_all

QUICK = SimpleNamespace(delay_after_errors=lambda *_: 0.02)


def test_poller_wrong_key_fails_all_with_one_warning(connect, logged):
    with ScriptedServer(make_api_error("AuthFailure.SignatureFailure")) as server:
        connect(server.connection_uri("requests_per_second=100"))
        outcomes = asyncio.run(wait_all(*names(300)))
        assert len(server.requests) < 100
    assert {type(error) for error in outcomes} == {MpsPermanentError}
    assert all("Check Password (SecretKey)" in str(error) for error in outcomes)
    assert (
        len(traceback.extract_tb(outcomes[-1].__traceback__)) < 10
    )  # it does not grow with each waiter that raises it
    (warning,) = logged(logging.WARNING)
    assert "Ending all waits on connection 'mps_default' (300)" in warning


def test_poller_one_key_rejection_fails_no_wait(connect, logged):
    rejections = [make_api_error("AuthFailure.SecretIdNotFound")]
    with ScriptedServer(lambda _: rejections.pop() if rejections else SUCCESS) as server:
        connect(server.connection_uri())
        outcomes = asyncio.run(wait_all(*names(20)))
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    assert logged(logging.WARNING) == []


def test_poller_missing_connection_fails_all(monkeypatch, airflow_database, logged):
    monkeypatch.delenv("AIRFLOW_CONN_MPS_DEFAULT", raising=False)
    outcomes = asyncio.run(wait_all(*names(5), mps_conn_id="no_such_conn"))
    assert {type(error) for error in outcomes} == {InvalidMpsConnectionError}
    assert "no_such_conn" in str(outcomes[0])
    assert len(logged(logging.WARNING)) == 1


def test_wait_after_wrong_key_reads_connection_again(emulator, connect):
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


def test_poller_key_replaced_in_connection_is_used(connect, logged):
    def respond(request):
        connect(server.connection_uri().replace("some-id", "new-id"))
        return (
            make_api_error("AuthFailure.SecretIdNotFound") if "some-id" in request.headers["authorization"] else SUCCESS
        )

    with ScriptedServer(respond) as server:
        connect(server.connection_uri())
        outcomes = asyncio.run(wait_all(*names(20)))
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    assert logged(logging.WARNING) == []


def test_poller_expired_role_keys_refresh_off_event_loop(connect):
    roles, loop_ran = [], []

    def serve(request):
        if request.headers["x-tc-action"] == "AssumeRole":
            answered = threading.Event()
            loop.call_soon_threadsafe(answered.set)  # times out if the loop is blocked
            loop_ran.append(answered.wait(20))
            roles.append(f"token-{len(roles)}")
            keys = {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": roles[-1]}
            return make_json_reply({"Response": {"Credentials": keys, "ExpiredTime": time.time() + 3600}})
        if request.headers["x-tc-token"] != "token-1":
            return make_api_error("AuthFailure.TokenFailure")
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
    assert loop_ran == [True, True]


def test_poller_repeated_expiry_fails_no_wait(connect, logged):
    script = [PROCESSING, make_api_error("AuthFailure.TokenFailure")] * 6
    with ScriptedServer(*script, SUCCESS) as server:
        connect(server.connection_uri())
        (task,) = asyncio.run(wait_all("task-1"))
        assert len(server.requests) == 13
    assert task.status is TaskStatus.SUCCESS
    assert logged(logging.WARNING) == []


def test_poller_connection_deleted_raises_does_not_exist(connect, monkeypatch):
    get_mps_connection, lookups = MpsHook.aget_mps_connection, []

    async def only_once(hook):
        lookups.append(hook)
        if len(lookups) > 1:
            monkeypatch.delenv("AIRFLOW_CONN_MPS_DEFAULT", raising=False)
        return await get_mps_connection(hook)

    monkeypatch.setattr(MpsHook, "aget_mps_connection", only_once)
    with ScriptedServer(make_api_error("AuthFailure.SecretIdNotFound")) as server:
        connect(server.connection_uri())
        outcomes = asyncio.run(wait_all(*names(10)))
    assert {type(error) for error in outcomes} == {InvalidMpsConnectionError}
    assert "does not exist" in str(outcomes[0])


@pytest.mark.parametrize("when", ["at first", "while tasks wait"])
def test_poller_connection_lookup_failure_is_retried(connect, monkeypatch, logged, when):
    get_mps_connection, lookups = MpsHook.aget_mps_connection, []

    async def fail(hook):
        lookups.append(hook)
        if (len(lookups) <= 2) if when == "at first" else (len(lookups) == 2):
            raise RuntimeError("the secrets backend is down")
        return await get_mps_connection(hook)

    monkeypatch.setattr(MpsHook, "aget_mps_connection", fail)
    rejections = [] if when == "at first" else [make_api_error("AuthFailure.TokenFailure")]
    with ScriptedServer(lambda _: rejections.pop() if rejections else SUCCESS) as server:
        connect(server.connection_uri())
        outcomes = asyncio.run(wait_all(*names(10)))
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}
    assert all("will retry in" in line and "the secrets backend is down" in line for line in logged(logging.WARNING))
    assert len(logged(logging.WARNING)) == (2 if when == "at first" else 1)


def test_poller_connection_lookup_failures_end_the_waits(monkeypatch):
    async def fail(_):
        raise RuntimeError("the secrets backend is gone")

    monkeypatch.setattr(MpsHook, "aget_mps_connection", fail)
    monkeypatch.setattr(request_gate, "_BACKOFF", QUICK)
    monkeypatch.setattr(request_gate, "MAX_FAILURES", 2)
    outcomes = asyncio.run(wait_all(*names(3)))
    assert all("is gone" in repr(error) for error in outcomes)


def test_poller_secrets_backend_error_hides_password(monkeypatch, caplog):
    async def fail(_):
        raise RuntimeError("POST https://vault:SECRET@vault.example/v1?token=SECRET failed")

    monkeypatch.setattr(MpsHook, "aget_mps_connection", fail)
    monkeypatch.setattr(request_gate, "_BACKOFF", QUICK)
    monkeypatch.setattr(request_gate, "MAX_FAILURES", 2)
    (error,) = asyncio.run(wait_all(*names(1)))
    assert "vault.example" in str(error)
    assert "SECRET" not in caplog.text + "".join(traceback.format_exception(error))


def test_poller_slow_role_refresh_does_not_block_loop(connect):
    left, answered = threading.Event(), []

    def hold(_):
        answered.append(left.wait(60))
        return HANG

    with ScriptedServer(hold) as sts:
        connect(sts.connection_uri("timeout=60&role_arn=arn"))

        async def run_other_work():
            waits = [asyncio.create_task(wait_for_task(name, FAST)) for name in names(30)]
            while not sts.requests:
                await asyncio.sleep(0.01)
            async with asyncio.timeout(30):
                await asyncio.gather(*(asyncio.to_thread(time.sleep, 0) for _ in range(20)))
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)
            assert len(sts.requests) == 1

        asyncio.run(run_other_work())
        assert answered == []  # the loop does not wait for the refresh when it ends either
        left.set()


def test_poller_transient_assume_role_error_is_retried(connect):
    broken = [make_api_error("InternalError"), make_api_error("RequestLimitExceeded")]

    def serve(request):
        if request.headers["x-tc-action"] != "AssumeRole":
            return SUCCESS
        if broken:
            return broken.pop()
        keys = {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": "t"}
        return make_json_reply({"Response": {"Credentials": keys, "ExpiredTime": time.time() + 3600}})

    with ScriptedServer(serve) as server:
        connect(server.connection_uri("role_arn=arn"))
        outcomes = asyncio.run(wait_all(*names(3)))
    assert {task.status for task in outcomes} == {TaskStatus.SUCCESS}


def test_poller_late_rejection_of_old_keys_is_ignored(connect, logged, monkeypatch):
    numbers, third, judged = itertools.count(1), threading.Event(), []
    record_outcome = RequestGate.record_outcome

    def note(gate, permit, error=None):
        record_outcome(gate, permit, error)
        judged.append(error)

    def serve(_):
        number = next(numbers)
        if number == 1:
            third.wait(30)
        if number == 3:  # with refreshed keys; meanwhile the first, signed with the old ones, is rejected
            third.set()
            while len(judged) < 2:
                time.sleep(0.01)
        return SUCCESS if number >= 3 else make_api_error("AuthFailure.TokenFailure")

    monkeypatch.setattr(RequestGate, "record_outcome", note)
    with ScriptedServer(serve) as server:
        connect(server.connection_uri("timeout=60&requests_per_second=10"))
        outcomes = asyncio.run(wait_all(*names(2)))
        assert len(server.requests) == 4
    assert {getattr(outcome, "status", outcome) for outcome in outcomes} == {TaskStatus.SUCCESS}
    assert logged(logging.WARNING) == []


def test_poller_key_invalid_before_edit_fails_no_wait(connect, monkeypatch):
    monkeypatch.setattr(request_gate, "_BACKOFF", QUICK)
    monkeypatch.setattr(intervals, "FIRST_USE_GRACE_SECONDS", 30.0)

    def respond(request):
        if "new-id" in request.headers["authorization"]:
            return SUCCESS
        if len(server.requests) == 20:  # more than are under way at once: some are probes
            connect(server.connection_uri("requests_per_second=300").replace("some-id", "new-id"))
        return make_api_error("AuthFailure.SecretIdNotFound")

    with ScriptedServer(respond) as server:
        connect(server.connection_uri("requests_per_second=300"))
        outcomes = asyncio.run(wait_all(*names(20)))
    assert {getattr(outcome, "status", outcome) for outcome in outcomes} == {TaskStatus.SUCCESS}


def test_poller_role_keys_replaced_fails_no_wait(connect, monkeypatch):
    monkeypatch.setattr(request_gate, "_BACKOFF", QUICK)
    monkeypatch.setattr(intervals, "FIRST_USE_GRACE_SECONDS", 30.0)
    rejected = []

    def respond(request):
        if request.headers["x-tc-action"] != "AssumeRole":
            return SUCCESS
        if "new-id" in request.headers["authorization"]:
            keys = {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": "t"}
            return make_json_reply({"Response": {"Credentials": keys, "ExpiredTime": time.time() + 3600}})
        rejected.append(request)
        if len(rejected) == 5:
            connect(server.connection_uri("role_arn=arn").replace("some-id", "new-id"))
        return make_api_error("AuthFailure.SecretIdNotFound")

    with ScriptedServer(respond) as server:
        connect(server.connection_uri("role_arn=arn"))
        outcomes = asyncio.run(wait_all(*names(5)))
    assert {getattr(outcome, "status", outcome) for outcome in outcomes} == {TaskStatus.SUCCESS}
    assert len(rejected) == 5


@pytest.mark.parametrize(
    ("error", "quoted"),
    [
        (ImportError("cannot import name 'x' from 'tencentcloud.common'"), "ImportError: cannot import name"),
        (FileNotFoundError(2, "No such file or directory"), "failed with FileNotFoundError"),
        (ValueError("Unknown scheme for proxy URL 'ftp://user:pass@host'"), "failed with ValueError"),
        (TypeError("an older SDK"), "failed with TypeError"),
    ],
)
def test_poller_client_creation_error_fails_all_at_once(connect, monkeypatch, logged, error, quoted):
    attempts = []

    def fail(*_, **__):
        attempts.append(error)
        raise error

    monkeypatch.setattr("airflow_provider_mps.api.client.ClientProfile", fail)
    connect("tencent-mps://id:key@mps.invalid/http")
    outcomes = asyncio.run(wait_all(*names(5)))
    assert len(attempts) == 1
    assert {type(outcome) for outcome in outcomes} == {InvalidMpsConnectionError}
    assert quoted in str(outcomes[0])
    assert "mps_default" in str(outcomes[0])
    assert "pass@" not in "".join(traceback.format_exception(outcomes[0]))
    assert len(logged(logging.WARNING)) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("SSL_CERT_FILE", "/no/such/ca.pem"), ("ALL_PROXY", "ftp://user:secret@127.0.0.1:1"), ("NO_PROXY", "[::1")],
)
def test_poller_invalid_environment_variables_end_the_waits(connect, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        (outcome,) = asyncio.run(wait_all("task-1"))
    # If the variable has no effect, the task is polled.
    assert isinstance(outcome, InvalidMpsConnectionError) or outcome.status is TaskStatus.SUCCESS
    assert "secret" not in str(outcome)
