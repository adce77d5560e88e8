"""A real HTTP server that answers each request with the next step of a script, faults included."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None
    """Bytes of the body after which the connection is dropped, although Content-Length promised all of it."""
    drip: float = 0.0
    """Seconds between any two bytes of the body."""


def json_reply(answer: object, status: int = 200, content_type: str = "application/json") -> Reply:
    return Reply(json.dumps(answer).encode(), status, {"Content-Type": content_type})


def api_error(code: str, message: str = "refused") -> Reply:
    return json_reply({"Response": {"Error": {"Code": code, "Message": message}, "RequestId": "req-1"}})


RESET = object()
"""Read the request, then reset the connection without an answer."""
HANG = object()
"""Read the request and never answer."""

Step = Reply | object | Callable[[Request], Reply | object]


class ScriptedServer:
    """
    Serves the steps of ``script``, one a request; the last one is repeated for ever.

    ``requests`` keeps what was received.
    """

    def __init__(self, *script: Step, tls: Path | None = None) -> None:
        self.script = list(script)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
        if self._tls:
            self._tls.load_cert_chain(tls)
        self.requests: list[Request] = []
        self.accepted = 0
        """Connections."""
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def __enter__(self) -> ScriptedServer:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        socket.create_connection(("127.0.0.1", self.port)).close()  # wakes the thread that accepts
        self._thread.join(5)
        self._listening.close()

    def connection_uri(self, query: str = "timeout=20") -> str:
        return f"tencent-mps://some-id:some-key@127.0.0.1:{self.port}/http?{query}"

    def _accept(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            if self._stopped.is_set():
                connection.close()
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        if self._tls:
            try:
                connection = self._tls.wrap_socket(connection, server_side=True)
            except OSError:
                connection.close()
                return
        with connection, connection.makefile("rb") as incoming:
            try:
                request = _read_request(incoming, connection)
            except (OSError, ValueError):
                return
            with self._lock:
                self.requests.append(request)
                step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            if callable(step):
                step = step(request)
            if step is HANG:
                self._stopped.wait(30)
            elif step is RESET:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                assert isinstance(step, Reply)
                head, body = _to_bytes(step)
                with suppress(OSError):
                    connection.sendall(head if step.drip else head + body)
                    for byte in body if step.drip else b"":
                        connection.sendall(bytes([byte]))
                        if self._stopped.wait(step.drip):
                            break


def _read_request(incoming, connection) -> Request:
    method, target, _ = incoming.readline().decode().split(" ", 2)
    headers = {}
    while line := incoming.readline().strip().decode():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    return Request(method, target, headers, incoming.read(int(headers.get("content-length", 0))))


def _to_bytes(reply: Reply) -> tuple[bytes, bytes]:
    headers = {"Content-Length": str(len(reply.body)), "Connection": "close", **reply.headers}
    head = f"HTTP/1.1 {reply.status} Scripted\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in headers.items() if value
    )
    return head.encode("latin-1") + b"\r\n", reply.body[: reply.cut_at]


class Tunnel:
    """
    A proxy that leads to one port of this machine, whatever host is asked for, with CONNECT or without.

    ``asked`` keeps what it was asked for: ``host:port`` of a tunnel, or the URL of a request.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self.asked: list[str] = []

    def __enter__(self) -> Tunnel:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._stopped = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._listening.close()

    def _accept(self) -> None:
        while True:
            client, _ = self._listening.accept()
            if self._stopped.is_set():
                client.close()
                return
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        asked = b""
        while not asked.endswith(b"\r\n\r\n"):
            asked += client.recv(1)
        method, target, _ = asked.decode().split(" ", 2)
        self.asked.append(target)
        server = socket.create_connection(("127.0.0.1", self._target_port))
        if method == "CONNECT":
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            server.sendall(asked)
        threading.Thread(target=_pump, args=(client, server), daemon=True).start()
        _pump(server, client)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    # A reset is passed on as one.
    for end in (source, target):
        with suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.shutdown(socket.SHUT_RDWR)


def audio_reply(audio: bytes, request: Request | None = None, **changes) -> Reply:
    """Answer as COS does: length, ETag, CRC-64, and the range that was asked for."""
    from fastcrc import crc64

    headers = {
        "Content-Type": "audio/wav",
        "ETag": f'"{crc64.xz(audio):x}"',
        "x-cos-hash-crc64ecma": str(crc64.xz(audio)),
    }
    wanted = request.headers.get("range") if request else None
    if wanted and request and request.headers.get("if-range") == headers["ETag"]:
        first = int(wanted.removeprefix("bytes=").rstrip("-"))
        headers["Content-Range"] = f"bytes {first}-{len(audio) - 1}/{len(audio)}"
        return Reply(audio[first:], 206, headers, **changes)
    return Reply(audio, 200, headers, **changes)
