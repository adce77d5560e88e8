"""Run the emulator on a port of this machine."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any
from urllib.parse import quote

import uvicorn

from airflow_provider_mps.emulator.app import Options, make_app

START_TIMEOUT_SECONDS = 10.0
CONNECTION_TYPE = "tencent-mps"


def connection_uri(options: Options, host: str, port: int) -> str:
    """Return the Airflow connection to an emulator as a URI."""
    credentials = f"{quote(options.secret_id, safe='')}:{quote(options.secret_key, safe='')}"
    token = f"&token={quote(options.token, safe='')}" if options.token else ""
    return f"{CONNECTION_TYPE}://{credentials}@{format_address(host, port)}/http?region=ap-singapore{token}"


def format_address(host: str, port: int) -> str:
    """Return a host and a port as they stand in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind(host: str, port: int) -> socket.socket:
    """Bind a port (0: any free one), so that its number is known before the server starts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.listen()  # clients can connect at once, and wait until the server is up
    return listening


class RunningEmulator:
    """
    The emulator in a thread of this program, on a free port, while the ``with`` block runs.

    :param options: the emulator's options
    :param app: an ASGI application to serve instead, e.g. the emulator wrapped in faults
    """

    host = "127.0.0.1"

    def __init__(self, options: Options | None = None, app: Any = None) -> None:
        self.options = options or Options()
        self._app = app or make_app(self.options)

    def __enter__(self) -> RunningEmulator:
        listening = bind(self.host, 0)
        self.port: int = listening.getsockname()[1]
        self._server = uvicorn.Server(uvicorn.Config(self._app, log_level="warning", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, name="mps-emulator", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise RuntimeError("the emulator did not start")
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(START_TIMEOUT_SECONDS)

    @property
    def url(self) -> str:
        """Its URL, e.g. ``http://127.0.0.1:8790``."""
        return f"http://{self.host}:{self.port}"

    @property
    def connection_uri(self) -> str:
        """The Airflow connection to it as a URI, for ``AIRFLOW_CONN_MPS_DEFAULT``."""
        return connection_uri(self.options, self.host, self.port)
