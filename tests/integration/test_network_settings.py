"""Proxy and certificate variables apply alike to all kinds of requests, tested with real servers and proxies."""

import asyncio
import json
import socket
import uuid

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from s3fs import S3FileSystem

from airflow_provider_mps.api.network_settings import CA_VARIABLES
from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.emulator.server import RunningEmulator
from airflow_provider_mps.exceptions import InvalidMpsConnectionError, MpsApiError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.storage.http import open_url
from tests.answers import PROCESSING
from tests.certificates import PrivateCa
from tests.s3_server import S3Server
from tests.scripted_server import Reply, ScriptedServer, Tunnel, make_json_reply
from tests.tls_front import TlsFront

pytestmark = [pytest.mark.usefixtures("no_network_variables", "no_waiting"), pytest.mark.xdist_group("network")]
HOST = "api.network.test"
BUCKET = "clips-1250000000"


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return PrivateCa.create(tmp_path_factory.mktemp("ca"), HOST, f"{BUCKET}.{HOST}", "localhost")


class Requests:
    """One method per kind of request, to a server that stands for the API, storage with audio, or COS."""

    def __init__(self, monkeypatch):
        self._environment = monkeypatch

    def _connect(self, origin, **extra):
        conn_id = f"mps_{uuid.uuid4().hex[:8]}"
        scheme, _, host = origin.partition("://")
        login = {"login": "emulator-id", "password": "emulator-key"} if "cos_endpoint" not in extra else S3_KEYS
        extra["timeout"] = 20
        stored = {"conn_type": "tencent_mps", "host": host, "schema": scheme, **login, "extra": extra}
        self._environment.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(stored))
        return conn_id

    def call_api(self, origin, **extra):
        hook = MpsHook(self._connect(origin, **extra))
        assert hook.describe_text_to_speech_task(hook.submit_text_to_speech("hello", "voice"))

    def acall_api(self, origin, **extra):
        async def call():
            hook = MpsHook(self._connect(origin, **extra))
            try:
                assert await hook.adescribe_text_to_speech_task(await hook.asubmit_text_to_speech("hello", "voice"))
            finally:
                await hook.aclose()

        asyncio.run(call())

    def download(self, origin):
        with open_url(f"{origin}/a.wav", {}, lambda: None) as response:
            assert response.status in {200, 404}

    def write_to_cos(self, origin, **extra):
        conn_id = self._connect(origin, cos_endpoint=origin, region="ap-singapore", **extra)
        ObjectStoragePath(f"cos://{conn_id}@{BUCKET}/a.wav").write_bytes(b"audio")

    def assume_role(self, origin, **extra):
        self.call_api(origin, role_arn="qcs::cam::uin/1:roleName/a", **extra)


S3_KEYS = {"login": S3Server.key, "password": S3Server.secret}
REQUESTS = ["call_api", "acall_api", "download", "write_to_cos", "assume_role"]


@pytest.fixture(params=REQUESTS)
def send_request(request, monkeypatch):
    monkeypatch.setattr(S3FileSystem, "retries", 1)  # in addition to the retries of botocore
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return getattr(Requests(monkeypatch), request.param)


@pytest.fixture(scope="module")
def servers(ca, tmp_path_factory):
    """The emulator, and an S3 server in place of COS, both with certificates of the private CA."""
    options = Options(secret_id="emulator-id", secret_key="emulator-key", rate_limit=1000)
    with (
        RunningEmulator(options) as emulator,
        S3Server(tmp_path_factory.mktemp("s3")) as s3,
        TlsFront(emulator.port, ca.server) as api,
        TlsFront(s3.port, ca.server) as storage,
    ):
        s3.make_bucket(BUCKET)
        yield {"write_to_cos": f"https://127.0.0.1:{storage.port}"} | dict.fromkeys(
            {*REQUESTS} - {"write_to_cos"}, f"https://127.0.0.1:{api.port}"
        )


@pytest.fixture
def origin(send_request, servers):
    return servers[send_request.__name__]


@pytest.mark.parametrize("variable", CA_VARIABLES)
def test_private_ca_is_trusted(send_request, origin, ca, monkeypatch, tmp_path, variable):
    trusted = str(ca.file)
    if variable == "SSL_CERT_DIR":
        (tmp_path / "00000000.0").symlink_to(ca.file)
        trusted = f"/nowhere:{tmp_path}"
    monkeypatch.setenv(variable, trusted)
    send_request(origin)


def test_private_ca_without_variable_is_untrusted(send_request, origin):
    with pytest.raises(Exception, match=r"(?i)certificate"):
        send_request(origin)


def test_certificate_of_other_host_is_untrusted(send_request, monkeypatch, tmp_path):
    other = PrivateCa.create(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(other.file))
    with ScriptedServer(serve, tls=other.server) as server:
        resolve = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", lambda _, *rest, **more: resolve("127.0.0.1", *rest, **more))
        with pytest.raises(Exception, match=r"(?i)hostname mismatch|doesn't match"):
            send_request(f"https://other.test:{server.port}")
    assert server.requests == []


def test_first_ca_variable_excludes_others(send_request, origin, ca, monkeypatch, tmp_path):
    other = PrivateCa.create(tmp_path, "other.test")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.file))
    monkeypatch.setenv("SSL_CERT_FILE", str(ca.file))
    with pytest.raises(Exception, match=r"(?i)certificate"):
        send_request(origin)


@pytest.mark.parametrize("variable", CA_VARIABLES)
def test_missing_ca_file_raises_before_sending(send_request, server, monkeypatch, variable):
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv(variable, "/nowhere/ca.pem")
    with pytest.raises(InvalidMpsConnectionError, match=f"{variable} names /nowhere/ca.pem"):
        send_request(f"https://{HOST}:{server.port}")
    assert server.requests == []


def serve(request):
    """Respond as the API, STS, storage with audio, and COS."""
    action = request.headers.get("x-tc-action")
    if action == "AssumeRole":
        keys = {"TmpSecretId": "i", "TmpSecretKey": "k", "Token": "t"}
        return make_json_reply({"Response": {"Credentials": keys, "ExpiredTime": 4e9, "RequestId": "r"}})
    if action == "TextToSpeechAsync":
        return make_json_reply({"Response": {"ErrorCode": 0, "Msg": "", "TaskId": "task-1", "RequestId": "r"}})
    return PROCESSING if action else Reply(b"", 200, {"ETag": '"e"'})


@pytest.fixture
def server(ca, monkeypatch):
    """A server for all names below ``.test``, with a trusted certificate."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host, *arguments, **keywords):
        name = host.decode() if isinstance(host, bytes) else host
        return resolve("127.0.0.1" if name and name.endswith(".test") else host, *arguments, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca.file))
    with ScriptedServer(serve, tls=ca.server) as running:
        yield running


@pytest.fixture
def proxy(server):
    with Tunnel(server.port) as running:
        running.url = f"http://127.0.0.1:{running.port}"
        yield running


@pytest.mark.parametrize("variable", ["https_proxy", "ALL_PROXY"])
def test_environment_proxy_is_used(send_request, server, proxy, monkeypatch, variable):
    monkeypatch.setenv(variable, proxy.url.removeprefix("http://"))
    monkeypatch.setenv(
        "NO_PROXY", "network.test:1, xapi.network.test, api.network.test.cn, 127.0.0.0/8, [::1], http://["
    )
    send_request(f"https://{HOST}:{server.port}")
    assert server.requests
    assert {target.removeprefix(f"{BUCKET}.") for target in proxy.targets} == {f"{HOST}:{server.port}"}


def test_proxy_with_tls_is_verified(send_request, server, proxy, ca, monkeypatch, tmp_path):
    monkeypatch.delenv("SSL_CERT_FILE")  # OpenSSL itself reads it
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca.file))
    with TlsFront(proxy.port, ca.server) as front:
        monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{front.port}")
        send_request(f"https://{HOST}:{server.port}")
        assert server.requests
        assert proxy.targets
        proxy.targets.clear()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(PrivateCa.create(tmp_path).file))
        with pytest.raises(Exception, match=r"(?i)certificate"):
            send_request(f"https://{HOST}:{server.port}")
        assert proxy.targets == []


@pytest.mark.parametrize("no_proxy", [".network.test", "*", "a.example , Network.TEST", f"{HOST}:PORT"])
def test_proxy_is_bypassed_for_exempt_name(send_request, server, proxy, monkeypatch, no_proxy):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", no_proxy.replace("PORT", str(server.port)))
    send_request(f"https://{HOST}:{server.port}")
    assert server.requests
    assert proxy.targets == []


@pytest.mark.parametrize("no_proxy", ["127.0.0.1", "10.0.0.0/8, 127.0.0.0/8"])
def test_proxy_is_bypassed_for_exempt_address(send_request, server, proxy, monkeypatch, no_proxy):
    monkeypatch.setenv("ALL_PROXY", proxy.url)
    monkeypatch.setenv("no_proxy", no_proxy)
    send_request(f"https://127.0.0.1:{server.port}")
    assert server.requests
    assert proxy.targets == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTPS_PROXY", "http://user:SECRET#1@host:1"),
        ("https_proxy", "http://[::1"),
        ("ALL_PROXY", "socks://host:1080"),
    ],
)
def test_invalid_proxy_raises_before_sending(send_request, server, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidMpsConnectionError, match=variable) as caught:
        send_request(f"https://{HOST}:{server.port}")
    assert "SECRET" not in str(caught.value)
    assert server.requests == []


@pytest.mark.parametrize("send_request", sorted({*REQUESTS} - {"download"}), indirect=True)
def test_connection_proxy_overrides_environment(send_request, server, proxy, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "*")
    send_request(f"https://{HOST}:{server.port}", proxy=proxy.url)
    assert len(proxy.targets) == len(server.requests) > 0


def test_cos_prefers_aws_ca_bundle(servers, ca, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(ca.file))
    Requests(monkeypatch).write_to_cos(servers["write_to_cos"])


def test_http_request_uses_http_proxy(send_request, monkeypatch):
    with ScriptedServer(serve) as server, Tunnel(server.port) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
        send_request("http://api.network.test")
        assert len(proxy.targets) == len(server.requests) > 0


API_CALLS = ["call_api", "acall_api", "assume_role"]


@pytest.mark.parametrize("send_request", API_CALLS, indirect=True)
def test_clients_load_certificates_once(send_request, origin, ca, monkeypatch, loaded_certificates):
    monkeypatch.setenv("SSL_CERT_FILE", str(ca.file))
    for _ in range(3):
        send_request(origin)
    assert loaded_certificates == [str(ca.file)]


@pytest.mark.parametrize("send_request", API_CALLS, indirect=True)
def test_http_clients_load_no_certificates(send_request, monkeypatch, loaded_certificates):
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with ScriptedServer(serve) as server:
        send_request(f"http://127.0.0.1:{server.port}")
        assert server.requests
    assert loaded_certificates == []


def test_client_uses_replaced_ca_file_for_new_connections(ca, monkeypatch, tmp_path):
    file = tmp_path / "ca.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with ScriptedServer(serve, tls=ca.server) as server:
        PrivateCa.create(tmp_path, "other.test").file.rename(file)
        hook = MpsHook(Requests(monkeypatch)._connect(f"https://127.0.0.1:{server.port}"))
        with pytest.raises(MpsApiError, match=r"(?i)certificate"):
            hook.describe_text_to_speech_task("task-1")
        file.write_bytes(ca.file.read_bytes() + b"\n")  # of another size, if the clock has not moved on
        assert hook.describe_text_to_speech_task("task-1")
