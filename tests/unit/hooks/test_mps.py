import asyncio
import json
import logging
import threading
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mps.errors import (
    ErrorClass,
    InvalidMpsConnectionError,
    InvalidRequestError,
    MpsApiError,
    MpsPermanentError,
)
from airflow_provider_mps.hooks.mps import MpsHook
from tests.certificates import self_signed
from tests.scripted_server import HANG, RESET, Reply, ScriptedServer, Tunnel, api_error, json_reply

PROCESSING = json_reply({"Response": {"Status": "processing", "ErrorCode": 100, "RequestId": "req-9"}})
ACCEPTED = json_reply({"Response": {"ErrorCode": 0, "TaskId": "task-1", "RequestId": "req-9"}})
NOT_JSON = Reply(b"<html>", headers={"Content-Type": "application/json"})
NO_RESPONSE = json_reply({"hello": 1})
GATEWAY = Reply(b"bad gateway", 502)


@pytest.fixture(params=["sync", "async"])
def calls(request):
    """The hook's two calls, through each of its two ways."""
    return Sync() if request.param == "sync" else Async()


class Sync:
    def describe(self, task_id="task-1"):
        return MpsHook().describe_text_to_speech_task(task_id)

    def submit(self):
        return MpsHook().submit_text_to_speech("hello", "voice")


class Async:
    def describe(self, task_id="task-1"):
        return asyncio.run(self._with_hook(lambda hook: hook.adescribe_text_to_speech_task(task_id)))

    def submit(self):
        return asyncio.run(self._with_hook(lambda hook: hook.asubmit_text_to_speech("hello", "voice")))

    async def _with_hook(self, call):
        hook = MpsHook()
        try:
            return await call(hook)
        finally:
            await hook.aclose()


pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.mark.parametrize(
    "fault",
    [api_error("RequestLimitExceeded"), api_error("InternalError"), NOT_JSON, NO_RESPONSE, GATEWAY, RESET, HANG],
    ids=["throttled", "internal error", "not json", "no response", "502", "reset", "timeout"],
)
def test_a_query_is_repeated_after_an_error_that_may_pass(connect, calls, fault):
    with ScriptedServer(fault, PROCESSING) as server:
        connect(server.connection_uri("timeout=0.5"))
        assert calls.describe().request_id == "req-9"
        assert len(server.requests) == 2


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "RequestLimitExceeded.UinLimitExceeded"])
def test_a_throttled_submit_is_repeated_because_it_was_refused(connect, calls, code):
    with ScriptedServer(api_error(code), ACCEPTED) as server:
        connect(server.connection_uri())
        assert calls.submit() == "task-1"
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    "fault",
    [
        api_error("InternalError"),
        api_error("FailedOperation.NetWorkError"),
        NOT_JSON,
        NO_RESPONSE,
        GATEWAY,
        RESET,
        HANG,
    ],
    ids=["internal error", "network error", "not json", "no response", "502", "reset", "timeout"],
)
def test_a_submit_that_may_have_been_accepted_is_never_sent_twice(connect, calls, fault):
    with ScriptedServer(fault, ACCEPTED) as server:
        connect(server.connection_uri("timeout=0.5"))
        with pytest.raises(MpsApiError) as caught:
            calls.submit()
        assert caught.value.error_class is ErrorClass.OUTCOME_UNKNOWN
        assert len(server.requests) == 1


@pytest.mark.parametrize("call", ["describe", "submit"])
def test_a_permanent_error_is_asked_once_and_names_connection_and_request_id(connect, calls, call):
    with ScriptedServer(api_error("UnauthorizedOperation", "no such right")) as server:
        connect(server.connection_uri())
        with pytest.raises(MpsPermanentError, match=r"'mps_default'.*no such right.*req-1") as caught:
            getattr(calls, call)()
        assert isinstance(caught.value, AirflowFailException)
        assert len(server.requests) == 1


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "text/html"])
def test_an_api_error_is_an_error_whatever_the_content_type(connect, calls, content_type):
    answer = {"Response": {"Error": {"Code": "InvalidParameter", "Message": "x"}, "RequestId": "r"}}
    with ScriptedServer(json_reply(answer, content_type=content_type)) as server:
        connect(server.connection_uri())
        with pytest.raises(MpsPermanentError, match="InvalidParameter"):
            calls.describe()


@pytest.mark.parametrize("call", ["describe", "submit"])
def test_expired_credentials_are_renewed_once(connect, calls, call):
    with ScriptedServer(api_error("AuthFailure.TokenFailure")) as server:
        connect(server.connection_uri())
        with pytest.raises(MpsPermanentError):
            getattr(calls, call)()
        assert len(server.requests) == 2


def test_nothing_is_sent_for_an_empty_task_id(connect, calls):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError):
            calls.describe("")
        assert server.requests == []


@pytest.mark.parametrize("call", ["describe", "submit"])
def test_a_refused_connection_was_provably_not_sent(connect, calls, call):
    with ScriptedServer(PROCESSING) as server:
        pass  # its port is free again
    connect(server.connection_uri())
    with pytest.raises(MpsApiError, match="Check Host") as caught:
        getattr(calls, call)()
    assert caught.value.error_class is ErrorClass.NOT_SENT


def test_an_unknown_host_names_the_connection_and_the_field_to_mend(connect, calls):
    connect("tencent-mps://some-id:some-key@mps.invalid/http")
    with pytest.raises(MpsApiError, match=r"'mps_default'.*Check Host"):
        calls.submit()


def test_a_missing_connection_is_an_error_that_names_it_and_is_not_retried(monkeypatch, calls):
    monkeypatch.delenv("AIRFLOW_CONN_MPS_DEFAULT", raising=False)
    with pytest.raises(InvalidMpsConnectionError, match=r"'mps_default'.*AIRFLOW_CONN_MPS_DEFAULT"):
        calls.describe()


def test_an_extra_that_is_no_object_is_an_error_that_names_the_connection(monkeypatch, calls):
    monkeypatch.setenv("AIRFLOW_CONN_MPS_DEFAULT", json.dumps({"conn_type": "tencent_mps", "extra": "[1]"}))
    with pytest.raises(InvalidMpsConnectionError, match="Extra"):
        calls.describe()


def test_the_client_is_kept_and_asks_in_english(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri("region=ap-singapore"))
        hook = MpsHook()
        assert hook.get_conn() is hook.get_conn()
        hook.describe_text_to_speech_task("task-1")
        assert server.requests[0].headers["x-tc-language"] == "en-US"
        assert server.requests[0].headers["x-tc-region"] == "ap-singapore"


def test_any_other_action_can_be_called_through_the_sdks_client(connect):
    with ScriptedServer(json_reply({"Response": {"TaskSet": [], "RequestId": "r"}})) as server:
        connect(server.connection_uri())
        assert MpsHook().get_conn().call_json("DescribeTasks", {"Status": "FINISH"})["Response"]["TaskSet"] == []
        assert server.requests[0].headers["x-tc-action"] == "DescribeTasks"


def test_the_connection_to_the_server_is_kept_alive(emulator):
    hook = MpsHook()
    task_id = hook.submit_text_to_speech("hello", "voice")
    for _ in range(3):
        hook.describe_text_to_speech_task(task_id)
    pools = hook.get_conn().request.conn._session.get_adapter("http://").poolmanager.pools
    assert [pools[key].num_connections for key in pools.keys()]  # noqa: SIM118 - it is no dict == [1]


def test_the_asynchronous_connection_to_the_server_is_kept_alive(emulator):
    async def ask():
        hook = MpsHook()
        task_id = await hook.asubmit_text_to_speech("hello", "voice")
        for _ in range(3):
            await hook.adescribe_text_to_speech_task(task_id)
        connections = len((await hook.aget_conn()).http_client._transport._pool.connections)
        await hook.aclose()
        return connections

    assert asyncio.run(ask()) == 1


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


@pytest.mark.parametrize("way", ["sync", "async"])
def test_requests_go_through_the_connections_proxy(connect, way):
    with ScriptedServer(PROCESSING) as proxy:
        connect(f"tencent-mps://id:key@mps.invalid/http?proxy=http%3A%2F%2Fuser%3Apassword%40127.0.0.1%3A{proxy.port}")
        (Sync() if way == "sync" else Async()).describe()
        assert proxy.requests[0].target.startswith("http://mps.invalid/")
        assert proxy.requests[0].headers["proxy-authorization"].startswith("Basic ")


def test_a_second_event_loop_gets_a_client_of_its_own(emulator):
    hook = MpsHook()

    async def ask():
        task_id = await hook.asubmit_text_to_speech("hello", "voice")
        return (await hook.adescribe_text_to_speech_task(task_id)).task_id

    assert asyncio.run(ask()) != asyncio.run(ask())


def test_renewing_temporary_keys_does_not_block_the_event_loop(connect):
    answered, went_on = threading.Event(), []

    def slow_role(_):
        went_on.append(answered.wait(5))
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
        connect(server.connection_uri("timeout=10&role_arn=arn"))
        assert asyncio.run(ask()).request_id == "req-9"
        assert server.requests[0].headers["x-tc-action"] == "AssumeRole"
    assert went_on == [True]


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
        connect(server.connection_uri("timeout=0.5"))
        ok, sentence = MpsHook().test_connection()
        assert ok is works
        assert sentence.endswith(".")
        assert len(server.requests) == 1


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


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_is_not_followed_so_that_text_and_token_stay_here(connect, calls, status):
    with ScriptedServer(ACCEPTED) as elsewhere:
        redirect = Reply(b"", status, {"Location": elsewhere.url})
        with ScriptedServer(redirect) as server:
            connect(server.connection_uri("token=SECRETTOKEN"))
            with pytest.raises(MpsApiError, match=f"HTTP {status}"):
                calls.submit()
            assert len(server.requests) == 1
        assert elsewhere.requests == []


def test_the_signature_goes_out_whatever_a_netrc_says(connect, calls, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password SECRETNETRC\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        calls.describe()
        assert server.requests[0].headers["authorization"].startswith("TC3-HMAC-SHA256")


@pytest.mark.parametrize(
    "step", [RESET, Reply(b"", cut_at=0, headers={"Content-Length": "5"})], ids=["reset", "closed"]
)
def test_a_submit_through_a_tunnel_that_breaks_after_sending_is_never_sent_twice(
    connect, calls, step, tmp_path, monkeypatch
):
    certificate = self_signed(tmp_path)
    monkeypatch.setattr("certifi.where", lambda: str(certificate))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with ScriptedServer(step, tls=certificate) as server, Tunnel(server.port) as tunnel:
        connect(f"tencent-mps://id:key@localhost:{server.port}/?timeout=2&proxy=http%3A%2F%2F127.0.0.1%3A{tunnel.port}")
        with pytest.raises(MpsApiError) as caught:
            calls.submit()
        assert len(server.requests) == 1
        assert caught.value.error_class is ErrorClass.OUTCOME_UNKNOWN


def test_a_proxy_that_refuses_the_tunnel_proves_that_nothing_was_sent(connect, calls):
    with ScriptedServer(Reply(b"", 407)) as proxy:
        connect(f"tencent-mps://id:key@mps.invalid/?proxy=http%3A%2F%2Fuser%3ASECRETPROXY%40127.0.0.1%3A{proxy.port}")
        with pytest.raises(MpsApiError) as caught:
            calls.submit()
    assert caught.value.error_class is ErrorClass.NOT_SENT
    assert "SECRETPROXY" not in str(caught.value)


def test_https_to_a_server_that_speaks_http_was_not_sent_and_says_to_check_the_schema(emulator, connect, calls):
    connect(emulator.connection_uri.replace("/http?", "/https?"))
    with pytest.raises(MpsApiError, match="Schema") as caught:
        calls.submit()
    assert caught.value.error_class is ErrorClass.NOT_SENT


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


def test_timeout_bounds_the_whole_request_and_not_only_each_wait(connect, calls):
    def drip(request):
        return Reply(b"{" * 200, drip=0.05)

    with ScriptedServer(drip) as server:
        connect(server.connection_uri("timeout=0.5"))
        started = time.monotonic()
        with pytest.raises(MpsApiError):
            calls.submit()
        assert time.monotonic() - started < 5  # the whole would take 10 s


def test_renewing_credentials_leaves_other_calls_in_flight_alone(connect):
    def serve(request):
        if request.headers["x-tc-action"] == "TextToSpeechAsync":
            time.sleep(0.5)
            return ACCEPTED
        return api_error("AuthFailure.TokenFailure") if len(server.requests) < 4 else PROCESSING

    async def both():
        hook = MpsHook()
        submitted, _described = await asyncio.gather(
            hook.asubmit_text_to_speech("hello", "voice"),
            hook.adescribe_text_to_speech_task("task-1"),
            return_exceptions=True,
        )
        await hook.aclose()
        return submitted

    with ScriptedServer(serve) as server:
        connect(server.connection_uri("timeout=5"))
        assert asyncio.run(both()) == "task-1"


def test_many_first_calls_share_one_client(emulator):
    async def many():
        hook = MpsHook()
        clients = await asyncio.gather(*(hook.aget_conn() for _ in range(20)))
        await hook.aclose()
        return len(set(map(id, clients)))

    assert asyncio.run(many()) == 1


@pytest.mark.parametrize("credentials", [None, {}, {"TmpSecretId": None}])
def test_a_role_without_usable_keys_was_not_sent_and_says_so(connect, calls, credentials):
    with ScriptedServer(json_reply({"Response": {"Credentials": credentials, "RequestId": "req-5"}})) as server:
        connect(server.connection_uri("role_arn=arn"))
        with pytest.raises(MpsApiError, match=r"without usable keys.*req-5") as caught:
            calls.submit()
    assert caught.value.error_class is ErrorClass.NOT_SENT


def test_a_throttled_sts_is_named_and_the_submit_was_not_sent(connect, calls):
    with ScriptedServer(api_error("RequestLimitExceeded", "too many roles")) as server:
        connect(server.connection_uri("role_arn=arn"))
        with pytest.raises(MpsApiError, match=r"Assuming the role arn.*RequestLimitExceeded: too many roles") as caught:
            calls.submit()
    assert caught.value.error_class is ErrorClass.NOT_SENT
