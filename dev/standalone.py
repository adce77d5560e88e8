"""A whole Airflow with its UI, the MPS emulator beside it, and the connection between them in place."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from dev.airflow_api import AirflowApi
from dev.airflow_environment import EXAMPLE_DAGS, REPOSITORY, airflow_environment
from dev.programs import free_port, reserve_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

START_TIMEOUT = 180
STOP_TIMEOUT = 20
HOME = REPOSITORY / ".airflow"
IS_AIRFLOW_2 = version("apache-airflow").startswith("2.")
HEALTH = "/health" if IS_AIRFLOW_2 else "/api/v2/monitor/health"


class Standalone:
    """
    ``airflow standalone`` and the emulator, each in a process group of its own, while the ``with`` block runs.

    The tasks of Airflow 3 have an API server of their own. On SQLite, a single API server can deadlock: its event loop
    waits for the database lock to write the audit log, and the request that holds the lock waits for the event loop.

    :param home: folder for Airflow's database and logs; what is there already is used
    :param port: of the UI; 0 takes any free one
    :param dags: folder of the DAGs
    :param emulator: the emulator's options on its command line
    :param environment: overrides what is set here
    :param connect: make the connection ``mps_default`` to the emulator, in Airflow's environment unless one is there
    """

    def __init__(
        self,
        home: Path,
        port: int = 0,
        dags: Path = EXAMPLE_DAGS,
        emulator: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        *,
        connect: bool = True,
    ) -> None:
        self.home = home
        self.connect = connect
        self.emulator = emulator
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._reservation = reserve_port()
        self.execution_port = self._reservation.getsockname()[1]
        self.log = home / "standalone.log"
        self.environment = {
            **airflow_environment(home, dags),
            "PYTHONUNBUFFERED": "1",  # so that the log has what has happened
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.execution_port}/execution/",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",  # more made the scheduler die of a locked SQLite on a busy machine
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",  # a file that changes is read again at once
            # The same for Airflow 2.
            "AIRFLOW__WEBSERVER__WEB_SERVER_HOST": "127.0.0.1",
            "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": str(self.port),
            "AIRFLOW__WEBSERVER__BASE_URL": self.url,
            # Of their own, so that two Airflows on one machine do not meet.
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            **(environment or {}),
        }
        self.processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Standalone:
        self.home.mkdir(parents=True, exist_ok=True)
        try:
            self.connection_uri = self._start_emulator()
            if self.connect:
                self.environment.setdefault("AIRFLOW_CONN_MPS_DEFAULT", self.connection_uri)
            self.start_airflow()
            self._wait_for_response(f"{self.url}{HEALTH}", self.log)
            if not IS_AIRFLOW_2:
                self.start_execution_api()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes):
            stop_group(process)
        self.processes.clear()
        self._reservation.close()

    def start_airflow(self) -> None:
        """Start every part of Airflow, and the one with the UI last."""
        with self.log.open("w") as log:
            self.start("airflow", "standalone", output=log.fileno())

    def start(
        self, module: str, *arguments: str, output: int, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a Python module as one more process that ends with the ``with`` block."""
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def _start_emulator(self) -> str:
        log = self.home / "emulator.log"
        with log.open("w") as output:
            emulator = self.start(
                "airflow_provider_mps.emulator", "--port", "0", *self.emulator, output=output.fileno()
            )
        while emulator.poll() is None:
            if match := re.search(r"AIRFLOW_CONN_MPS_DEFAULT='(.+)'", log.read_text()):
                return match[1]
            time.sleep(0.1)
        raise RuntimeError(f"the emulator did not start:\n{log.read_text()}")

    def start_execution_api(self) -> None:
        """Start the API server for tasks, which needs the database that the other parts have made."""
        log = self.home / "execution-api.log"
        port = str(self.execution_port)
        with log.open("w") as output:
            self.start(
                *("airflow", "api-server", "--apps", "execution", "--host", "127.0.0.1", "--port", port),
                output=output.fileno(),
            )
        self._wait_for_response(f"http://127.0.0.1:{port}/execution/health", log)

    def has_ended_process(self, dag_id: str, task_id: str, run_id: str) -> bool:
        """Return whether the scheduler has noticed that the process of a task has ended, as it does on a deferral."""
        return f"TaskInstance Finished: dag_id={dag_id}, task_id={task_id}, run_id={run_id}, " in self.log.read_text()

    def _wait_for_response(self, url: str, log: Path) -> None:
        """Wait until the program that was started last responds."""
        deadline = time.monotonic() + START_TIMEOUT
        while not _is_up(url):
            if time.monotonic() > deadline or self.processes[-1].poll() is not None:
                raise RuntimeError(f"Airflow did not start; its log is {log}:\n{log.read_text()[-3000:]}")
            time.sleep(0.5)


def _is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - a local address of our own
            return bool(response.status == 200)  # noqa: PLR2004
    except (urllib.error.URLError, OSError):
        return False


def stop_group(process: subprocess.Popen[str]) -> None:
    """End a process and all that it has started in its group."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signal_number)
        except ProcessLookupError:
            break
        if signal_number == signal.SIGTERM and _group_ends(process):
            break
    process.wait()


def _group_ends(process: subprocess.Popen[str]) -> bool:
    deadline = time.monotonic() + STOP_TIMEOUT
    while time.monotonic() < deadline:
        process.poll()  # reaps the leader, which else would count as alive
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.2)
    return False


def _interrupt_once(*_: object) -> None:
    # make passes a signal on that its whole group has had: a second one must not break off the stopping.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def _interruptible() -> Iterator[None]:
    # Both, for a shell starts what it puts into the background with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt_once)
    try:
        yield
    except KeyboardInterrupt:
        print("\nStopping")


def _add_connection(airflow: Standalone) -> None:
    """Put the connection to the emulator where the UI shows it, and lets people change it."""
    api, emulator = AirflowApi(airflow.url), urlsplit(airflow.connection_uri)
    if api.client.get("/connections/mps_default").is_success:
        api.call("DELETE", "/connections/mps_default")
    connection = {
        "connection_id": "mps_default",
        "conn_type": "tencent_mps",
        "host": emulator.hostname,
        "port": emulator.port,
        "schema": emulator.path.strip("/"),
        "login": emulator.username,
        "password": emulator.password,
        "extra": json.dumps(dict(parse_qsl(emulator.query))),
    }
    api.call("POST", "/connections", json=connection)


def main() -> None:
    """Run until interrupted."""
    port = int(os.environ.get("PORT", "8080"))
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            sys.exit(f"Port {port} is in use. Choose another: make airflow PORT={port + 1}")
    with _interruptible():
        print("Starting Airflow and the MPS emulator; this takes about a minute", flush=True)
        with Standalone(HOME, port, connect=False) as airflow:
            _add_connection(airflow)
            print(f"Airflow is on {airflow.url}/dags/text_to_speech; its log is {airflow.log}")
            print(
                "Press Trigger there. The connection mps_default leads to the emulator. Ctrl-C ends both.", flush=True
            )
            signal.pause()


if __name__ == "__main__":
    main()
