import asyncio
import errno
import time
import traceback

import pytest

from airflow_provider_mps.api.actions import make_submit_call
from airflow_provider_mps.error_codes import NOT_SENT, ErrorClass
from airflow_provider_mps.exceptions import InvalidMpsConnectionError, MpsApiError, make_api_error
from airflow_provider_mps.hooks.mps import MpsHook
from tests.answers import ACCEPTED, PROCESSING
from tests.certificates import make_self_signed_certificate
from tests.scripted_server import RESET, Reply, ScriptedServer, Tunnel, make_json_reply

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.mark.parametrize("call", ["describe", "submit"])
def test_refused_tcp_connection_is_not_sent(connect, calls, call):
    with ScriptedServer(PROCESSING) as server:
        pass  # the port is closed again
    connect(server.connection_uri())
    with pytest.raises(MpsApiError, match=r"Check Host \(API domain\)") as caught:
        getattr(calls, call)()
    assert caught.value.error_class is ErrorClass.NOT_SENT


def test_unknown_host_names_connection_and_field(connect, calls):
    connect("tencent-mps://some-id:some-key@mps.invalid/http")
    with pytest.raises(MpsApiError, match=r"'mps_default'.*Check Host \(API domain\)"):
        calls.submit()


def test_client_is_cached_and_requests_english(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri("region=ap-singapore"))
        hook = MpsHook()
        assert hook.get_conn() is hook.get_conn()
        hook.describe_text_to_speech_task("task-1")
        assert server.requests[0].headers["x-tc-language"] == "en-US"
        assert server.requests[0].headers["x-tc-region"] == "ap-singapore"


def test_sdk_client_can_call_other_actions(connect):
    with ScriptedServer(make_json_reply({"Response": {"TaskSet": [], "RequestId": "r"}})) as server:
        connect(server.connection_uri())
        assert MpsHook().get_conn().call_json("DescribeTasks", {"Status": "FINISH"})["Response"]["TaskSet"] == []
        assert server.requests[0].headers["x-tc-action"] == "DescribeTasks"


def test_server_connection_is_kept_alive(emulator):
    hook = MpsHook()
    task_id = hook.submit_text_to_speech("hello", "voice")
    for _ in range(3):
        hook.describe_text_to_speech_task(task_id)
    pools = hook.get_conn().request.conn._session.get_adapter("http://").poolmanager.pools
    assert [pools[key].num_connections for key in pools.keys()]  # noqa: SIM118 - it is no dict == [1]


def test_async_server_connection_is_kept_alive(emulator):
    async def query():
        hook = MpsHook()
        task_id = await hook.asubmit_text_to_speech("hello", "voice")
        for _ in range(3):
            await hook.adescribe_text_to_speech_task(task_id)
        connections = len((await hook.aget_conn()).http_client._transport._pool.connections)
        await hook.aclose()
        return connections

    assert asyncio.run(query()) == 1


def test_requests_use_connection_proxy(connect, calls):
    with ScriptedServer(PROCESSING) as proxy:
        connect(f"tencent-mps://id:key@mps.invalid/http?proxy=http%3A%2F%2Fuser%3Apassword%40127.0.0.1%3A{proxy.port}")
        calls.describe()
        assert proxy.requests[0].target.startswith("http://mps.invalid/")
        assert proxy.requests[0].headers["proxy-authorization"].startswith("Basic ")


def test_second_event_loop_gets_own_client(emulator):
    hook = MpsHook()

    async def query():
        task_id = await hook.asubmit_text_to_speech("hello", "voice")
        return (await hook.adescribe_text_to_speech_task(task_id)).task_id

    assert asyncio.run(query()) != asyncio.run(query())


@pytest.mark.parametrize("status", [302, 307])
def test_redirect_is_not_followed(connect, calls, status):
    with ScriptedServer(ACCEPTED) as other_server:
        redirect = Reply(b"", status, {"Location": other_server.url})
        with ScriptedServer(redirect) as server:
            connect(server.connection_uri("token=SECRETTOKEN"))
            with pytest.raises(MpsApiError, match=f"HTTP {status}"):
                calls.submit()
            assert len(server.requests) == 1
        assert other_server.requests == []


def test_netrc_does_not_replace_signature(connect, calls, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password SECRETNETRC\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        calls.describe()
        assert server.requests[0].headers["authorization"].startswith("TC3-HMAC-SHA256")


@pytest.mark.parametrize(
    "step", [RESET, Reply(b"", cut_at=0, headers={"Content-Length": "5"})], ids=["reset", "closed"]
)
def test_submit_through_broken_tunnel_is_sent_once(connect, calls, step, tmp_path, monkeypatch):
    certificate = make_self_signed_certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with ScriptedServer(step, tls=certificate) as server, Tunnel(server.port) as tunnel:
        connect(
            f"tencent-mps://id:key@localhost:{server.port}/?timeout=20&proxy=http%3A%2F%2F127.0.0.1%3A{tunnel.port}"
        )
        with pytest.raises(MpsApiError) as caught:
            calls.submit()
        assert len(server.requests) == 1
        assert caught.value.error_class is ErrorClass.OUTCOME_UNKNOWN


def test_tunnel_rejected_by_proxy_is_not_sent(connect, calls):
    with ScriptedServer(Reply(b"", 407)) as proxy:
        connect(f"tencent-mps://id:key@mps.invalid/?proxy=http%3A%2F%2Fuser%3ASECRETPROXY%40127.0.0.1%3A{proxy.port}")
        with pytest.raises(MpsApiError) as caught:
            calls.submit()
    assert caught.value.error_class is ErrorClass.NOT_SENT
    assert "SECRETPROXY" not in str(caught.value)


def test_https_to_http_server_advises_schema(emulator, connect, calls):
    connect(emulator.connection_uri.replace("/http?", "/https?"))
    with pytest.raises(MpsApiError, match="Schema"):
        calls.submit()


@pytest.mark.parametrize(
    "headers", [{"Content-Length": "68, 7"}, {"Location": "mailto:x"}], ids=["two lengths", "odd location"]
)
def test_malformed_http_response_is_unknown_outcome(connect, calls, headers):
    with ScriptedServer(Reply(b"x" * 68, 302, headers)) as server:
        connect(server.connection_uri())
        with pytest.raises(MpsApiError) as caught:
            calls.submit()
        assert caught.value.error_class is ErrorClass.OUTCOME_UNKNOWN
        assert len(server.requests) == 1


def test_unexpected_error_after_submit_is_unknown_outcome(emulator, calls, monkeypatch):
    def fail(*_):
        raise AttributeError("a bug")

    monkeypatch.setattr("airflow_provider_mps.api.client.parse_response", fail)
    with pytest.raises(MpsApiError, match="unexpected AttributeError") as caught:
        calls.submit()
    assert caught.value.error_class is ErrorClass.OUTCOME_UNKNOWN
    with pytest.raises(AttributeError):
        calls.describe()


def test_timeout_limits_whole_request(connect, calls):
    def drip(request):
        return Reply(b"{" * 2000, drip=0.05)

    with ScriptedServer(drip) as server:
        connect(server.connection_uri("timeout=0.5"))
        started = time.monotonic()
        with pytest.raises(MpsApiError):
            calls.submit()
        assert time.monotonic() - started < 50  # the whole response takes 100 seconds


def test_concurrent_first_calls_share_client(emulator):
    async def many():
        hook = MpsHook()
        clients = await asyncio.gather(*(hook.aget_conn() for _ in range(20)))
        await hook.aclose()
        return len(set(map(id, clients)))

    assert asyncio.run(many()) == 1


UNEXPECTED_ERRORS = [
    RuntimeError("http://user:SECRET@proxy"),
    ValueError("SECRET"),
    PermissionError(13, "no", "/some/SECRET"),
]


@pytest.mark.parametrize("fault", UNEXPECTED_ERRORS)
def test_client_setup_error_is_permanent_without_secrets(connect, calls, monkeypatch, fault):
    def fail(*_, **__):
        raise fault

    monkeypatch.setattr("airflow_provider_mps.api.client.ClientProfile", fail)
    with ScriptedServer(ACCEPTED) as server:
        connect(server.connection_uri())
        with pytest.raises(
            InvalidMpsConnectionError, match=rf"'mps_default' failed with {type(fault).__name__}"
        ) as caught:
            calls.submit()
    assert server.requests == []
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


def test_client_setup_with_too_many_open_files_is_transient(connect, calls, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("airflow_provider_mps.api.client.ClientProfile", fail)
    connect("tencent-mps://id:key@mps.invalid/http")
    with pytest.raises(MpsApiError, match="Too many open files") as caught:
        calls.submit()
    assert caught.value.error_class is ErrorClass.NOT_SENT


def test_before_sending_runs_after_connecting_and_can_abort(connect):
    async def main():
        hook = MpsHook()
        call = make_submit_call("hello", "voice-1", None, None)
        abort_error = make_api_error(f"{NOT_SENT}.Withheld", "not now")
        connected = []

        async def note_connection():
            async with asyncio.timeout(30):
                while server.accepted == len(connected):  # until the server has accepted it
                    await asyncio.sleep(0.01)
            connected.append(server.accepted)

        async def abort():
            await note_connection()
            raise abort_error

        with pytest.raises(MpsApiError, match="not now") as caught:
            await hook.acall_once(call, abort)
        assert caught.value.error_class is ErrorClass.NOT_SENT
        assert server.requests == []
        assert (await hook.acall_once(call, note_connection)).task_id == "task-1"
        assert connected == [1, 2]
        await hook.aclose()

    with ScriptedServer(ACCEPTED) as server:
        connect(server.connection_uri())
        asyncio.run(main())
    assert len(server.requests) == 1


def test_response_during_process_suspension_is_read(connect):
    """The event loop is blocked for longer than the connection's timeout, as after SIGSTOP."""

    async def main():
        hook = MpsHook()

        async def suspend():
            asyncio.get_running_loop().call_later(0.02, time.sleep, 1.4)

        accepted = await hook.acall_once(make_submit_call("hello", "voice-1", None, None), suspend)
        await hook.aclose()
        return accepted.task_id

    with ScriptedServer(lambda _: time.sleep(0.1) or ACCEPTED) as server:
        connect(server.connection_uri("timeout=0.3"))
        assert asyncio.run(main()) == "task-1"
