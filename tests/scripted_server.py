"""An HTTP server that sends scripted replies and faults."""

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
    """Bytes of the body after which the connection is closed; Content-Length still announces the whole body."""
    drip: float = 0.0
    """Seconds between two bytes of the body."""


def make_json_reply(content: object, status: int = 200, content_type: str = "application/json") -> Reply:
    return Reply(json.dumps(content).encode(), status, {"Content-Type": content_type})


def make_api_error(code: str, message: str = "rejected") -> Reply:
    return make_json_reply({"Response": {"Error": {"Code": code, "Message": message}, "RequestId": "req-1"}})


RESET = object()
"""Read the request, then reset the connection without a response."""
HANG = object()
"""Read the request and never respond."""

Step = Reply | object | Callable[[Request], Reply | object]


class ScriptedServer:
    """
    Serves one step of ``script`` per request, and repeats the last one.

    ``requests`` keeps the received requests.
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
        socket.create_connection(("127.0.0.1", self.port)).close()  # wakes the accepting thread
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
    A proxy that forwards every request to one port of this machine, with or without CONNECT.

    ``targets`` keeps the requested targets: ``host:port`` of a tunnel, or the URL of a request.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self.targets: list[str] = []

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
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        method, target, _ = head.decode().split(" ", 2)
        self.targets.append(target)
        server = socket.create_connection(("127.0.0.1", self._target_port))
        if method == "CONNECT":
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            server.sendall(head)
        threading.Thread(target=_pump, args=(client, server), daemon=True).start()
        _pump(server, client)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    # Forward a reset as a reset.
    for end in (source, target):
        with suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.shutdown(socket.SHUT_RDWR)


def make_audio_reply(audio: bytes, request: Request | None = None, **changes) -> Reply:
    """Reply as COS does: with length, ETag, CRC-64 and the requested range."""
    from fastcrc import crc64

    headers = {
        "Content-Type": "audio/wav",
        "ETag": f'"{crc64.xz(audio):x}"',
        "x-cos-hash-crc64ecma": str(crc64.xz(audio)),
    }
    requested_range = request.headers.get("range") if request else None
    if requested_range and request and request.headers.get("if-range") == headers["ETag"]:
        first = int(requested_range.removeprefix("bytes=").rstrip("-"))
        headers["Content-Range"] = f"bytes {first}-{len(audio) - 1}/{len(audio)}"
        return Reply(audio[first:], 206, headers, **changes)
    return Reply(audio, 200, headers, **changes)
