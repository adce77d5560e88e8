import time
import traceback

import pytest
import urllib3

from airflow_provider_mps.storage.http import TransientUrlError, UrlError, open_url, validate_http_url
from tests.certificates import make_self_signed_certificate
from tests.scripted_server import HANG, RESET, Reply, ScriptedServer


def read(url, headers=None):
    with open_url(url, headers or {}, lambda: None) as response:
        return response.status, b"".join(response.read_blocks())


def redirect(location, status=302):
    return Reply(b"redirected", status, {"Location": location})


def test_open_url_reads_body_undecoded():
    with ScriptedServer(Reply(b"audio", 206)) as server:
        assert read(server.url, {"Range": "bytes=1-"}) == (206, b"audio")
        assert server.requests[0].headers["accept-encoding"] == "identity"
        assert server.requests[0].headers["range"] == "bytes=1-"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_followed_with_same_headers(status):
    with ScriptedServer(redirect("/other?sign=1", status), Reply(b"audio")) as server:
        assert read(f"{server.url}/a.wav", {"Range": "bytes=1-"}) == (200, b"audio")
        assert server.requests[1].target == "/other?sign=1"
        assert server.requests[1].headers["range"] == "bytes=1-"


@pytest.mark.parametrize("location", ["file:///etc/hostname", "ftp://127.0.0.1/a.wav", "data:audio/wav,x", "//["])
def test_redirect_to_other_scheme_raises(location):
    with ScriptedServer(redirect(location)) as server:
        with pytest.raises(UrlError, match="URL"):
            read(server.url)
        assert len(server.requests) == 1


def test_redirect_from_https_to_http_raises(tmp_path, monkeypatch):
    certificate = make_self_signed_certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with ScriptedServer(Reply(b"audio")) as target, ScriptedServer(redirect(target.url), tls=certificate) as server:
        with pytest.raises(UrlError, match="scheme 'http'"):
            read(f"https://localhost:{server.port}/a.wav")
        assert target.requests == []


def test_redirect_from_http_to_https_is_followed(tmp_path, monkeypatch):
    certificate = make_self_signed_certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with (
        ScriptedServer(Reply(b"audio"), tls=certificate) as target,
        ScriptedServer(redirect(f"https://localhost:{target.port}/a.wav")) as server,
    ):
        assert read(server.url) == (200, b"audio")


def test_redirect_through_https_to_http_raises(tmp_path, monkeypatch):
    certificate = make_self_signed_certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with (
        ScriptedServer(Reply(b"audio")) as target,
        ScriptedServer(redirect(target.url), tls=certificate) as middle,
        ScriptedServer(redirect(f"https://localhost:{middle.port}/a.wav")) as first,
    ):
        with pytest.raises(UrlError, match="scheme 'http'"):
            read(first.url)
        assert target.requests == []


def test_redirect_loop_raises_after_limit():
    with ScriptedServer(redirect("/again")) as server:
        with pytest.raises(UrlError, match="more than 5 times"):
            read(server.url)
        assert len(server.requests) == 6


@pytest.mark.parametrize("fault", [RESET, Reply(b"audio", cut_at=2)], ids=["reset", "truncated"])
def test_broken_connection_is_transient(fault):
    with ScriptedServer(fault) as server, pytest.raises(TransientUrlError):
        read(server.url)


def test_reset_of_new_connection_is_not_repeated():
    with ScriptedServer(RESET, Reply(b"audio")) as server:
        with pytest.raises(TransientUrlError):
            read(server.url)
        assert len(server.requests) == 1


def test_stalled_server_is_transient(monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.storage.http.TIMEOUT_SECONDS", (1, 0.2))
    with ScriptedServer(HANG) as server, pytest.raises(TransientUrlError, match="timed out"):
        read(server.url)


def test_response_may_take_longer_than_connect_timeout(monkeypatch):
    def respond_late(_):
        time.sleep(0.5)
        return Reply(b"audio")

    monkeypatch.setattr("airflow_provider_mps.storage.http.TIMEOUT_SECONDS", (0.2, 60))
    with ScriptedServer(respond_late) as server:
        assert read(server.url) == (200, b"audio")


def test_refused_connection_is_transient_and_hides_signature():
    with ScriptedServer(RESET) as server:
        url = f"{server.url}/a.wav?sign=SECRETSIGN"
    with pytest.raises(TransientUrlError) as caught:
        read(url)
    assert "refused" in str(caught.value)
    assert "SECRETSIGN" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "clip.wav", "file:///etc/passwd", "ftp://host/a.wav", "http:///a.wav", "http://[::1/a"]
)
def test_validate_http_url_invalid_url_raises(url):
    with pytest.raises(UrlError):
        validate_http_url(url)


def test_netrc_credentials_are_not_sent(tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password SECRETPASSWORD\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with ScriptedServer(Reply(b"audio")) as server:
        read(server.url)
        assert "authorization" not in server.requests[0].headers


def test_proxy_from_environment_is_used(monkeypatch):
    with ScriptedServer(Reply(b"audio")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert read("http://audio.example/a.wav") == (200, b"audio")
        assert proxy.requests[0].target == "http://audio.example/a.wav"


def validate_and_read(url):
    validate_http_url(url)
    read(url)


@pytest.mark.parametrize(
    "base", ["http://exa mple/a.wav", "http:///a.wav", "http://a..b/a.wav", "http://127.0.0.1:1/a"]
)
def test_url_errors_and_causes_hide_signatures(base):
    secret = str(7**50)
    url = f"{base}?sign={secret}"
    with pytest.raises(UrlError) as caught:
        validate_and_read(url)
    assert secret not in "".join(traceback.format_exception(caught.value))


def test_redirect_body_is_not_read(monkeypatch):
    full_reads = []
    # The only methods by which urllib3 reads a whole response.
    monkeypatch.setattr(urllib3.HTTPResponse, "read", lambda *_, **__: full_reads.append("read"))
    monkeypatch.setattr(urllib3.HTTPResponse, "drain_conn", lambda *_: full_reads.append("drain_conn"))
    with ScriptedServer(redirect("/other"), Reply(b"audio")) as server:
        assert read(server.url) == (200, b"audio")
    assert full_reads == []


def test_wait_for_endless_headers_ends_when_cancelled():
    class CancelledError(Exception):
        pass

    def raise_cancelled():
        raise CancelledError

    with (
        ScriptedServer(HANG) as server,
        pytest.raises(CancelledError),
        open_url(server.url, {}, raise_cancelled),
    ):
        pass
