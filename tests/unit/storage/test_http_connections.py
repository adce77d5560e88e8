"""Connections of downloads are kept for later ones."""

import os
import random
import signal
import ssl
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from airflow_provider_mps.storage import watchdog
from airflow_provider_mps.storage.http import open_url
from tests.certificates import PrivateCa
from tests.scripted_server import HANG, Reply, ScriptedServer

AUDIO = b"audio" * 1000


class KeepAliveServer(ThreadingHTTPServer):
    """Serves :data:`AUDIO`, and keeps connections open unless ``closes_connections``."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.connections = 0
        self.closes_connections = False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.connections += 1

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(AUDIO)))
        self.end_headers()
        self.wfile.write(AUDIO)
        self.close_connection = self.server.closes_connections

    def log_message(self, *_):
        pass


@contextmanager
def serve(certificate=None):
    with KeepAliveServer() as server:
        if certificate:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server, f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}/clip.wav"
        finally:
            server.shutdown()
            thread.join()


def read(url):
    with open_url(url, {}, lambda: None) as response:
        return b"".join(response.read_blocks())


def run_in_forked_process(function):
    child = os.fork()
    if child == 0:
        os._exit(0 if function() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_downloads_share_a_connection():
    with serve() as (server, url):
        assert [read(url) for _ in range(3)] == [AUDIO] * 3
        assert server.connections == 1


def test_https_downloads_share_connection_and_certificates(tmp_path, monkeypatch, loaded_certificates):
    ca = PrivateCa.create(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca.file))
    with serve(ca.server) as (server, url):
        assert [read(url) for _ in range(3)] == [AUDIO] * 3
        assert server.connections == 1
    assert loaded_certificates == [str(ca.file)]


def test_http_downloads_load_no_certificates(loaded_certificates):
    with serve() as (_, url):
        read(url)
    assert loaded_certificates == []


def test_concurrent_downloads_have_connections_of_their_own():
    with serve() as (server, url):
        with open_url(url, {}, lambda: None) as first, open_url(url, {}, lambda: None) as second:
            assert b"".join(second.read_blocks()) == b"".join(first.read_blocks()) == AUDIO
        assert server.connections == 2


def test_connection_closed_by_server_is_replaced():
    with serve() as (server, url):
        server.closes_connections = True
        assert [read(url) for _ in range(3)] == [AUDIO] * 3
        assert server.connections == 3


def test_connection_with_unread_body_is_not_reused():
    with serve() as (server, url):
        with open_url(url, {}, lambda: None):
            pass
        assert read(url) == AUDIO
        assert server.connections == 2


def test_connection_is_reused_until_it_was_idle_for_long(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: now, sleep=time.sleep))
    with serve() as (server, url):
        read(url)
        now += watchdog.MAX_IDLE_SECONDS - 1
        assert read(url) == AUDIO
        assert server.connections == 1
        now += watchdog.MAX_IDLE_SECONDS + 1
        assert read(url) == AUDIO
        assert server.connections == 2


def test_forked_process_has_connections_of_its_own():
    with serve() as (server, url):
        read(url)
        assert run_in_forked_process(lambda: read(url) == AUDIO)
        assert server.connections == 2
        assert read(url) == AUDIO
        assert server.connections == 2


def test_download_in_forked_process_ends_when_cancelled(monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.storage.http.TIMEOUT_SECONDS", (10, 600))

    def is_cancelled():
        signal.alarm(60)  # ends the process, and fails the test, if nothing ends the download
        with pytest.raises(KeyboardInterrupt), open_url(server.url, {}, raise_interrupt):
            pass
        return True

    def raise_interrupt():
        raise KeyboardInterrupt

    with serve() as (_, url):
        read(url)  # starts the watching thread, which the forked process does not have
    with ScriptedServer(HANG) as server:
        assert run_in_forked_process(is_cancelled)


def test_password_of_proxy_is_sent_to_proxy_only(monkeypatch):
    with ScriptedServer(Reply(b"audio")) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@127.0.0.1:{proxy.port}")
        assert read("http://audio.example/a.wav") == b"audio"
        assert proxy.requests[0].headers["proxy-authorization"] == "Basic bWU6cEBzcw=="
        assert "authorization" not in proxy.requests[0].headers


def test_signal_at_any_moment_leaves_usable_connections():
    class StopTask(BaseException):  # like Airflow's own
        pass

    def interrupt(*_):
        raise StopTask

    outcomes = Counter()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with serve() as (_, url):
            for _ in range(300):
                try:
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.002))
                    outcomes[read(url) == AUDIO] += 1
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except StopTask:
                    outcomes["interrupted"] += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert read(url) == AUDIO
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert outcomes["interrupted"]
    assert not outcomes[False]
