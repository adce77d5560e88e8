import traceback

import pytest
import requests

from airflow_provider_mps.transfer.link import LinkError, PassingLinkError, make_session, open_link, require_http
from tests.certificates import self_signed
from tests.scripted_server import HANG, RESET, Reply, ScriptedServer


def read(url, headers=None):
    with make_session() as session, open_link(session, url, headers or {}, lambda: None) as answer:
        return answer.status, b"".join(answer.blocks())


def redirect(location, status=302):
    return Reply(b"elsewhere", status, {"Location": location})


def test_an_answer_is_read_as_it_was_sent():
    with ScriptedServer(Reply(b"audio", 206)) as server:
        assert read(server.url, {"Range": "bytes=1-"}) == (206, b"audio")
        assert server.requests[0].headers["accept-encoding"] == "identity"
        assert server.requests[0].headers["range"] == "bytes=1-"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_with_the_same_headers(status):
    with ScriptedServer(redirect("/other?sign=1", status), Reply(b"audio")) as server:
        assert read(f"{server.url}/a.wav", {"Range": "bytes=1-"}) == (200, b"audio")
        assert server.requests[1].target == "/other?sign=1"
        assert server.requests[1].headers["range"] == "bytes=1-"


@pytest.mark.parametrize("location", ["file:///etc/hostname", "ftp://127.0.0.1/a.wav", "data:audio/wav,x", "//["])
def test_a_redirect_to_anything_but_the_web_is_not_followed(location):
    with ScriptedServer(redirect(location)) as server:
        with pytest.raises(LinkError, match="link"):
            read(server.url)
        assert len(server.requests) == 1


def test_a_redirect_from_https_to_http_is_not_followed(tmp_path, monkeypatch):
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with ScriptedServer(Reply(b"audio")) as other, ScriptedServer(redirect(other.url), tls=certificate) as server:
        with pytest.raises(LinkError, match="scheme 'http'"):
            read(f"https://localhost:{server.port}/a.wav")
        assert other.requests == []


def test_a_redirect_from_http_to_https_is_followed(tmp_path, monkeypatch):
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with (
        ScriptedServer(Reply(b"audio"), tls=certificate) as other,
        ScriptedServer(redirect(f"https://localhost:{other.port}/a.wav")) as server,
    ):
        assert read(server.url) == (200, b"audio")


def test_a_redirect_through_https_does_not_come_back_to_http(tmp_path, monkeypatch):
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with (
        ScriptedServer(Reply(b"audio")) as last,
        ScriptedServer(redirect(last.url), tls=certificate) as between,
        ScriptedServer(redirect(f"https://localhost:{between.port}/a.wav")) as first,
    ):
        with pytest.raises(LinkError, match="scheme 'http'"):
            read(first.url)
        assert last.requests == []


def test_redirects_in_a_circle_end():
    with ScriptedServer(redirect("/again")) as server:
        with pytest.raises(LinkError, match="more than 5 times"):
            read(server.url)
        assert len(server.requests) == 6


@pytest.mark.parametrize("fault", [RESET, Reply(b"audio", cut_at=2)], ids=["reset", "truncated"])
def test_a_broken_connection_may_pass(fault):
    with ScriptedServer(fault) as server, pytest.raises(PassingLinkError):
        read(server.url)


def test_a_server_that_falls_silent_may_wake_up(monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.transfer.link.TIMEOUT", (1, 0.2))
    with ScriptedServer(HANG) as server, pytest.raises(PassingLinkError, match="timed out"):
        read(server.url)


def test_a_refused_connection_may_pass_and_its_error_holds_no_signature():
    with ScriptedServer(RESET) as server:
        url = f"{server.url}/a.wav?sign=SECRETSIGN"
    with pytest.raises(PassingLinkError) as caught:
        read(url)
    assert "refused" in str(caught.value)
    assert "SECRETSIGN" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "clip.wav", "file:///etc/passwd", "ftp://host/a.wav", "http:///a.wav", "http://[::1/a"]
)
def test_what_is_no_link_to_the_web_is_refused(url):
    with pytest.raises(LinkError):
        require_http(url)


def test_a_machines_netrc_is_not_sent(tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password SECRETPASSWORD\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with ScriptedServer(Reply(b"audio")) as server:
        read(server.url)
        assert "authorization" not in server.requests[0].headers


def test_the_environments_proxy_is_used(monkeypatch):
    with ScriptedServer(Reply(b"audio")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert read("http://audio.example/a.wav") == (200, b"audio")
        assert proxy.requests[0].target == "http://audio.example/a.wav"


def read_if_it_is_a_link(url):
    require_http(url)
    read(url)


@pytest.mark.parametrize(
    "link", ["http://exa mple/a.wav", "http:///a.wav", "http://a..b/a.wav", "http://127.0.0.1:1/a"]
)
def test_no_error_and_nothing_behind_it_quotes_a_signature(link):
    secret = str(7**50)
    url = f"{link}?sign={secret}"
    with pytest.raises(LinkError) as caught:
        read_if_it_is_a_link(url)
    assert secret not in "".join(traceback.format_exception(caught.value))


def test_the_body_of_a_redirect_is_not_read(monkeypatch):
    read_whole = []
    # requests reads an answer to its end by this property alone.
    monkeypatch.setattr(requests.Response, "content", property(read_whole.append))
    with ScriptedServer(redirect("/other"), Reply(b"audio")) as server:
        assert read(server.url) == (200, b"audio")
    assert read_whole == []


def test_an_answer_whose_head_never_ends_is_waited_for_only_as_long_as_it_is_wanted():
    class NotWantedError(Exception):
        pass

    def not_wanted():
        raise NotWantedError

    with (
        ScriptedServer(HANG) as server,
        make_session() as session,
        pytest.raises(NotWantedError),
        open_link(session, server.url, {}, not_wanted),
    ):
        pass
