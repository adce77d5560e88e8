"""A TCP proxy to a local server that a test can close and open again at the same address."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Gate:
    """
    Forward connections while it is open.

    :param target_port: of the server
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._connections: list[socket.socket] = []

    def __enter__(self) -> Gate:
        self._reserved = _bind(0)  # never listens; it reserves the port while the gate is shut
        self.port = self._reserved.getsockname()[1]
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.shut()
        self._reserved.close()

    def open(self) -> None:
        """Accept connections."""
        self._listening = _bind(self.port)
        self._listening.listen()
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def shut(self) -> None:
        """Reject new connections, and break existing ones."""
        for end in (self._listening, *self._connections):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._connections.clear()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                server = socket.create_connection(("127.0.0.1", self._target_port))
                self._connections += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=_pump, args=ends, daemon=True).start()


def _bind(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
