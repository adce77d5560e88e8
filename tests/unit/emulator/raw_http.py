"""A client that shows what httpx hides: each byte that arrived, and how the connection ended."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.unit.emulator.client import plain_http

SILENCE = 0.3
"""Seconds without a byte, before and after another request was served, until a connection is taken to stay open."""


@dataclass
class RawResponse:
    status: int
    headers: dict[str, str]
    body: bytes
    end: str
    """``closed``, ``reset`` or ``open``."""
    seconds: float
    """From the first byte to the last."""


def fetch(url, *headers, wait=0.0, method="GET") -> RawResponse:
    """
    Send a request and read all that comes.

    :param wait: seconds until the first byte is read
    """
    with connect(url, *headers, method=method) as connection:
        time.sleep(wait)
        return read(connection)


def connect(url, *headers, method="GET") -> socket.socket:
    """Send a request and leave the response unread, so that most of a large one stays with the server."""
    parts = urlsplit(url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.settimeout(60)
    connection.connect((parts.hostname, parts.port))
    lines = [f"{method} {parts.path}?{parts.query} HTTP/1.1", f"Host: {parts.netloc}", *headers, "", ""]
    connection.sendall("\r\n".join(lines).encode())
    return connection


def read(connection) -> RawResponse:
    received, times, end = b"", [], "closed"
    try:
        while block := _receive(connection):
            received += block
            times.append(time.monotonic())
            connection.settimeout(SILENCE)
    except ConnectionResetError:
        end = "reset"
    except TimeoutError:
        end = "open"
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return RawResponse(int(first.split()[1]), headers, body, end, times[-1] - times[0])


def _receive(connection) -> bytes:
    try:
        return connection.recv(1024 * 1024)
    except TimeoutError:
        # A busy machine is slow, too: the server has run once it has responded elsewhere.
        host, port = connection.getpeername()[:2]
        plain_http.get(f"http://{host}:{port}/")
        return connection.recv(1024 * 1024)
