"""A client's connection, taken from the server in the middle of an answer so that it can end in any way."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_SERVER_SEND = "airflow_provider_mps.emulator.server_send"
_POLL = 0.01


class App(Starlette):
    """A Starlette application whose answers can reach their :class:`Connection`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or live through a server's start and stop."""
        scope[_SERVER_SEND] = send  # what is handed to the answers is Starlette's own, around this one
        await super().__call__(scope, receive, send)


class Connection(asyncio.Protocol):
    """
    The connection that a request came by, while the ``with`` block runs and, once it was ended in one of these ways,
    until it is gone. What was sent before still arrives. A server that stops breaks it off and does not wait for it.

    Where it cannot be reached, because the server is not uvicorn or something stands between it and the application,
    nothing happens: the server then closes it itself when it finds the answer incomplete.

    :param scope: the request's
    """

    def __init__(self, scope: Scope) -> None:
        # uvicorn's `send` is a method of what holds the transport, whichever of its two HTTP implementations is used.
        owner = getattr(scope.get(_SERVER_SEND), "__self__", None)
        self._transport: Any = getattr(owner, "transport", None)
        self._server_side: Any = self._transport and self._transport.get_protocol()
        self._all: set[Any] = getattr(self._server_side, "connections", set())
        self._is_taken = False

    def __enter__(self) -> Connection:
        self._all.add(self)  # from here on uvicorn calls `shutdown` when it stops
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_taken:
            self._all.discard(self)

    async def hold(self) -> None:
        """Keep it open until the client leaves."""
        self._take()

    async def close(self) -> None:
        """Close it in an orderly way."""
        if self._take():
            self._transport.close()

    async def overfill(self, extra: bytes) -> None:
        """Send what was not announced, and close it."""
        if self._take():
            self._transport.write(extra)
            self._transport.close()

    async def reset(self) -> None:
        """Reset it, so that the client sees an error and not an end."""
        # A reset throws away what has not arrived.
        while self._is_sending():  # noqa: ASYNC110 - the kernel tells nobody when it has
            await asyncio.sleep(_POLL)
        if self._take():
            no_waiting = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_waiting)
            self._transport.abort()

    def shutdown(self) -> None:
        """Go, whatever has not arrived yet."""
        self._transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        """Be counted no more."""
        self._all.discard(self)

    def _is_sending(self) -> bool:
        if self._transport is None or self._transport.is_closing():
            return False
        if self._transport.get_write_buffer_size():
            return True
        unacknowledged = fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        return unacknowledged != bytes(4)

    def _take(self) -> bool:
        """Take the connection from the server, which believes from now on that the client has left."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._is_taken = True
        self._transport.set_protocol(self)
        self._server_side.connection_lost(ConnectionAbortedError("taken over to end in a fault"))
        return True
