"""
Shut down the connections of downloads that must not continue: one thread watches all downloads of this process.

A socket's timeout limits the wait for each byte only, so a server that sends a byte now and then could hold a download
for days. A thread for each download would make small clips slower.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.concurrency import SIGNAL_CHECK_SECONDS, call_interruptibly, start_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_IDLE_SECONDS = 20.0
"""Seconds since its last request after which a connection is replaced: a firewall may have dropped it unnoticed."""


class Watch:
    """
    A download in progress.

    :param check: raises when the download must not continue; called by the watching thread, too
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self.check = check
        self.reuses_connection = False
        """Whether its last request used a connection that an earlier request had opened."""
        self._connection: WatchedConnection | None = None
        self._socket: Any = None

    def use(self, connection: WatchedConnection, sock: Any) -> None:
        """Record which connection the download uses; ``http.client`` may forget its socket before the body is read."""
        self._connection, self._socket = connection, sock

    def shut_down(self) -> None:
        """End the reads and writes of the download."""
        if self._connection is None or self._connection.watch is not self:  # another download uses it now
            return
        sock = getattr(self._socket, "socket", self._socket)  # of TLS inside TLS
        with suppress(OSError, TypeError):
            # Not SSLSocket.shutdown(), which only the reading thread may call.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


class WatchedConnection:
    """A mix-in for connections of ``urllib3``: the watch of the calling thread applies to what they do."""

    sock: Any
    watch: Watch | None = None
    used_at = 0.0

    @property
    def is_connected(self) -> bool:
        """Whether the connection can be reused: it is open, and has not been idle for long."""
        is_recent = time.monotonic() - self.used_at < MAX_IDLE_SECONDS
        return is_recent and super().is_connected  # type: ignore[misc]

    def connect(self) -> None:
        """Connect; abandoned when the download must not continue, e.g. during a DNS lookup, which has no timeout."""
        self.watch = None
        call_interruptibly(super().connect, _current.watch.check)  # type: ignore[misc]

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request; connect first if there is no connection."""
        watch = _current.watch
        self.used_at = time.monotonic()
        watch.reuses_connection = self.sock is not None and self.watch is not None
        super().request(*args, **kwargs)  # type: ignore[misc]
        self.watch = watch
        watch.use(self, self.sock)


class _Current(threading.local):
    watch = Watch(lambda: None)


class _Watchdog:
    """The thread that watches, started with the first watch. A signal handler may raise at any line of its methods."""

    def __init__(self) -> None:
        self._watches: dict[Watch, None] = {}
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._is_awake = self._is_started = False

    def add(self, watch: Watch) -> None:
        self._watches[watch] = None
        if not self._is_started:
            # Its own context: the thread outlives the task that started it.
            Context().run(start_daemon_thread, self._run, "mps-download-watchdog")
            self._is_started = True
        if not self._is_awake:
            self._wake.put(None)

    def remove(self, watch: Watch) -> None:
        self._watches.pop(watch, None)

    def _run(self) -> None:
        while True:
            self._is_awake = False
            if not self._watches:  # `add` wakes this thread only after the line above
                self._wake.get()
            self._is_awake = True
            time.sleep(SIGNAL_CHECK_SECONDS)
            for watch in list(self._watches):
                try:
                    watch.check()
                except BaseException:  # noqa: BLE001 - its own thread raises it, too
                    watch.shut_down()


_current = _Current()
_watchdog = _Watchdog()


def _restart() -> None:
    """Forget the thread of the parent process, which a forked process does not have."""
    global _watchdog  # noqa: PLW0603
    _watchdog = _Watchdog()


os.register_at_fork(after_in_child=_restart)


@contextmanager
def watching(check: Callable[[], None]) -> Iterator[Watch]:
    """
    Watch what this thread does in the ``with`` block, with connections of :class:`WatchedConnection`.

    :param check: when it raises, the connection in use is shut down within half a second
    """
    watch, before, watchdog = Watch(check), _current.watch, _watchdog
    _current.watch = watch
    try:
        watchdog.add(watch)
        yield watch
    finally:
        _current.watch = before
        watchdog.remove(watch)
