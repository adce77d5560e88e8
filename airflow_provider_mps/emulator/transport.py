"""Take a client's connection from the server in the middle of a response, to end it in any way."""

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
_POLL_SECONDS = 0.01


class App(Starlette):
    """A Starlette application whose responses can use :class:`Connection`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request or a lifespan event."""
        scope[_SERVER_SEND] = send  # responses get a wrapper of Starlette around this one
        await super().__call__(scope, receive, send)


class Connection(asyncio.Protocol):
    """
    The connection of a request, to be ended within a ``with`` block.

    Data that was already sent still arrives. When the server stops, it aborts the connection. If the server is not
    uvicorn, or a middleware wraps ``send``, the methods do nothing; the server closes the connection because the
    response is incomplete.

    :param scope: ASGI scope of the request
    """

    def __init__(self, scope: Scope) -> None:
        # In both HTTP implementations of uvicorn, `send` is a method of the object that holds the transport.
        owner = getattr(scope.get(_SERVER_SEND), "__self__", None)
        self._transport: Any = getattr(owner, "transport", None)
        self._server_side: Any = self._transport and self._transport.get_protocol()
        self._all: set[Any] = getattr(self._server_side, "connections", set())
        self._is_taken = False

    def __enter__(self) -> Connection:
        self._all.add(self)  # uvicorn calls `shutdown` of each when it stops
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_taken:
            self._all.discard(self)

    async def hold(self) -> None:
        """Keep it open until the client closes it."""
        self._take()

    async def close(self) -> None:
        """Close it."""
        if self._take():
            self._transport.close()

    async def send_extra(self, extra: bytes) -> None:
        """Send bytes that were not announced, and close it."""
        if self._take():
            self._transport.write(extra)
            self._transport.close()

    async def reset(self) -> None:
        """Reset it, so that the client gets an error instead of an end."""
        # A reset discards data that has not arrived.
        while self._is_sending():  # noqa: ASYNC110 - the kernel sends no event
            await asyncio.sleep(_POLL_SECONDS)
        if self._take():
            no_waiting = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_waiting)
            self._transport.abort()

    def shutdown(self) -> None:
        """Abort the connection."""
        self._transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        """Remove this connection from the server's."""
        self._all.discard(self)

    def _is_sending(self) -> bool:
        if self._transport is None or self._transport.is_closing():
            return False
        if self._transport.get_write_buffer_size():
            return True
        unacknowledged = fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        return unacknowledged != bytes(4)

    def _take(self) -> bool:
        """Take the connection from the server, which then treats the client as disconnected."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._is_taken = True
        self._transport.set_protocol(self)
        self._server_side.connection_lost(ConnectionAbortedError("taken over to end in a fault"))
        return True
