"""Programs that this project runs beside Python's own: where they are, and ports for them."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path


def find_program(name: str) -> str | None:
    """
    Return a program's path; ``None`` where it is not installed.

    :param name: on PATH, beside this Python, or where Debian keeps Postgres's own
    """
    places = [Path(sys.executable).parent, *Path("/usr/lib/postgresql").glob("*/bin")]
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, places)))


def reserve_port() -> socket.socket:
    """
    Return a socket that reserves a free port of 127.0.0.1 until it is closed.

    It does not listen, so a server that sets ``SO_REUSEADDR`` may listen on the port meanwhile.
    """
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind(("127.0.0.1", 0))
    return reservation


def free_port() -> int:
    """
    Return a port of 127.0.0.1 that is free, and stays so for the program that is about to listen on it.

    A connection is made and closed by the server first, which leaves the port in TIME_WAIT for a minute. Meanwhile
    the system gives it to no other program that requests any port, and a server may listen on it: servers set
    ``SO_REUSEADDR``.
    """
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        port = int(server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = server.accept()
            accepted.close()
    return port
