"""A proxy to a real S3 server that injects faults into chosen requests."""

from __future__ import annotations

import socket
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from typing import BinaryIO
from urllib.parse import parse_qs, urlsplit

RESET = object()
"""Read half of the request, then reset the connection."""
LOSE_RESPONSE = object()
"""Let the server perform the request, then reset the connection instead of responding."""


@dataclass(frozen=True)
class ErrorResponse:
    """Read the request, and respond with an error."""

    status: int
    code: str

    @property
    def response(self) -> bytes:
        body = f"<?xml version='1.0'?><Error><Code>{self.code}</Code><Message>on purpose</Message></Error>".encode()
        head = f"HTTP/1.1 {self.status} Rejected\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
        return f"{head}Connection: close\r\n\r\n".encode() + body


Fault = ErrorResponse | Callable[[], None] | object


@dataclass(frozen=True)
class _Request:
    head: list[bytes]
    length: int

    @classmethod
    def read(cls, incoming: BinaryIO) -> _Request | None:
        head = []
        while line := incoming.readline().strip():
            head.append(line)
        lengths = [int(line.partition(b":")[2]) for line in head if line.lower().startswith(b"content-length:")]
        return cls(head, *(lengths or [0])) if head else None

    @property
    def operation(self) -> str:
        """The name of the S3 operation."""
        method, target, _ = self.head[0].decode().split(" ", 2)
        query = parse_qs(urlsplit(target).query, keep_blank_values=True)
        if "uploadId" in query:
            parts = {"PUT": "UploadPart", "GET": "ListParts", "POST": "CompleteMultipartUpload"}
            return parts.get(method, "AbortMultipartUpload")
        if "uploads" in query:
            return "CreateMultipartUpload" if method == "POST" else "ListMultipartUploads"
        return {"PUT": "PutObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}.get(method, method)

    @property
    def expects_continue(self) -> bool:
        return b"expect: 100-continue" in [line.lower() for line in self.head]

    @property
    def forwarded_head(self) -> bytes:
        """The head with the signed host, without hop-by-hop headers."""
        kept = [line for line in self.head if line.lower().partition(b":")[0] not in {b"expect", b"connection"}]
        return b"\r\n".join([*kept, b"Connection: close", b"", b""])


class FaultyS3:
    """Forwards requests to a local S3 server, while the ``with`` block runs."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._faults: defaultdict[str, deque[Iterable[Fault]]] = defaultdict(deque)
        self._lock = threading.Lock()
        self.operations: list[str] = []
        """The requested operations, in order."""

    def __enter__(self) -> FaultyS3:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def once(self, operation: str, fault: Fault) -> None:
        """Inject a fault into the next request for an operation; call a callable before forwarding the request."""
        self._faults[operation].append(iter([fault]))

    def always(self, operation: str, fault: Fault) -> None:
        self._faults[operation].append(repeat(fault))

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _next_fault(self, operation: str) -> Fault | None:
        with self._lock:
            self.operations.append(operation)
            faults = self._faults[operation]
            while faults:
                for fault in faults[0]:
                    return fault
                faults.popleft()
            return None

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, client.makefile("rb") as incoming:
            request = _Request.read(incoming)
            if request is None:
                return
            fault = self._next_fault(request.operation)
            if request.expects_continue:
                client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = incoming.read(request.length // 2 if fault is RESET else request.length)
            if isinstance(fault, ErrorResponse):
                head, end, error = fault.response.partition(b"\r\n\r\n")
                client.sendall(head + end + (b"" if request.operation == "HeadObject" else error))
            elif fault is RESET:
                _reset(client)
            else:
                if callable(fault):
                    fault()
                response = self._forward(request, body)
                if fault is LOSE_RESPONSE:
                    _reset(client)
                else:
                    client.sendall(response)

    def _forward(self, request: _Request, body: bytes) -> bytes:
        """Return the server's response; tests read only short ones through this proxy."""
        with socket.create_connection(("127.0.0.1", self._target_port)) as server, server.makefile("rb") as incoming:
            server.sendall(request.forwarded_head)
            server.sendall(body)
            return incoming.read()


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
