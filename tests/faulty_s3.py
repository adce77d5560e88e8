"""A way to a real S3 server on which chosen requests meet a fault."""

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
LOSE_ANSWER = object()
"""Let the server do what it is asked for, then reset the connection instead of answering."""


@dataclass(frozen=True)
class Refusal:
    """Read the request, and answer it with an error."""

    status: int
    code: str

    @property
    def answer(self) -> bytes:
        body = f"<?xml version='1.0'?><Error><Code>{self.code}</Code><Message>on purpose</Message></Error>".encode()
        head = f"HTTP/1.1 {self.status} Refused\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
        return f"{head}Connection: close\r\n\r\n".encode() + body


Fault = Refusal | Callable[[], None] | object


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
        """What S3 calls it."""
        method, target, _ = self.head[0].decode().split(" ", 2)
        query = parse_qs(urlsplit(target).query, keep_blank_values=True)
        if "uploadId" in query:
            parts = {"PUT": "UploadPart", "GET": "ListParts", "POST": "CompleteMultipartUpload"}
            return parts.get(method, "AbortMultipartUpload")
        if "uploads" in query:
            return "CreateMultipartUpload" if method == "POST" else "ListMultipartUploads"
        return {"PUT": "PutObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}.get(method, method)

    @property
    def waits_to_send(self) -> bool:
        return b"expect: 100-continue" in [line.lower() for line in self.head]

    @property
    def only_one(self) -> bytes:
        """The head as it came, the signed host included, but for what is between two neighbours."""
        kept = [line for line in self.head if line.lower().partition(b":")[0] not in {b"expect", b"connection"}]
        return b"\r\n".join([*kept, b"Connection: close", b"", b""])


class FaultyS3:
    """Passes requests on to an S3 server of this machine, while the ``with`` block runs."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._faults: defaultdict[str, deque[Iterable[Fault]]] = defaultdict(deque)
        self._lock = threading.Lock()
        self.operations: list[str] = []
        """What was asked for, in order."""

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
        """Let the next request for an operation meet a fault; what is callable is called before it is passed on."""
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
            if request.waits_to_send:
                client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = incoming.read(request.length // 2 if fault is RESET else request.length)
            if isinstance(fault, Refusal):
                head, end, error = fault.answer.partition(b"\r\n\r\n")
                client.sendall(head + end + (b"" if request.operation == "HeadObject" else error))
            elif fault is RESET:
                _reset(client)
            else:
                if callable(fault):
                    fault()
                answer = self._pass_on(request, body)
                if fault is LOSE_ANSWER:
                    _reset(client)
                else:
                    client.sendall(answer)

    def _pass_on(self, request: _Request, body: bytes) -> bytes:
        """Return the server's answer; no test reads anything long through here."""
        with socket.create_connection(("127.0.0.1", self._target_port)) as server, server.makefile("rb") as incoming:
            server.sendall(request.only_one)
            server.sendall(body)
            return incoming.read()


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
