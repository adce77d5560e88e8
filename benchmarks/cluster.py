"""An Airflow of several workers and triggerers, which Celery, Redis and Postgres hold together, on one machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from dev.airflow_environment import run_airflow
from dev.programs import find_program, free_port
from dev.standalone import Standalone

if TYPE_CHECKING:
    from collections.abc import Mapping

WORKERS = ("worker-1", "worker-2")
TRIGGERERS = ("triggerer-1", "triggerer-2")
SLOTS = 4
"""Tasks at a time in each worker."""
# What decides how long the loss of a machine goes unnoticed, in seconds; Airflow's own defaults are in docs/scaling.md.
NOTICED = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
}


class Cluster(Standalone):
    """
    Each part of Airflow in a process group of its own, as on machines of their own, while the ``with`` block runs.

    :param home: of all of them: what is one folder here is the same configuration on each machine
    :param environment: goes before what is set here
    :param dags: folder of the DAGs
    """

    def __init__(self, home: Path, dags: Path, environment: Mapping[str, str]) -> None:
        self.database_port, self.broker_port = free_port(), free_port()
        database = f"postgresql+psycopg2://airflow@127.0.0.1:{self.database_port}/postgres"
        super().__init__(
            home,
            dags=dags,
            connect=False,
            environment={
                "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
                "AIRFLOW__CORE__PARALLELISM": "64",
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
                "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{self.broker_port}/0",
                "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database}",
                "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(SLOTS),
                **NOTICED,
                **environment,
            },
        )
        self.environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] = f"{self.url}/execution/"
        self.parts: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Cluster:
        self.home.mkdir(parents=True, exist_ok=True)
        self._database = Path(tempfile.mkdtemp(prefix="mps-postgres-"))
        try:
            self._start_database()
            self._start_broker()
        except BaseException:
            self.__exit__()
            raise
        super().__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        shutil.rmtree(self._database, ignore_errors=True)

    def start_airflow(self) -> None:
        """Start scheduler, DAG processor, workers, triggerers and API server."""
        run_airflow(self.environment, "db", "migrate")
        self._start_part("scheduler", "scheduler")
        self._start_part("dag-processor", "dag-processor")
        for name in WORKERS:
            arguments = ("--celery-hostname", f"{name}@%h", "--pid", str(self.home / f"{name}.pid"))
            self._start_part(name, "celery", "worker", *arguments, port="WORKER_LOG_SERVER_PORT")
        for name in TRIGGERERS:
            self._start_part(name, "triggerer", port="TRIGGER_LOG_SERVER_PORT")
        self._start_part("api-server", "api-server", "--port", str(self.port), "--host", "127.0.0.1", "--workers", "2")

    def start_execution_api(self) -> None:
        """Start nothing: on Postgres, one API server is enough for tasks and users."""

    def log_of(self, name: str) -> str:
        """Return what a part has printed."""
        return (self.home / f"{name}.log").read_text()

    def kill(self, name: str) -> None:
        """Kill a worker or triggerer and all that runs in it, as if its machine had lost power."""
        root = psutil.Process(self.parts[name].pid)
        for process in [*root.children(recursive=True), root]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.parts[name].wait()

    def _start_part(self, name: str, *arguments: str, port: str | None = None) -> None:
        own = {f"AIRFLOW__LOGGING__{port}": str(free_port())} if port else {}
        with (self.home / f"{name}.log").open("w") as log:
            self.parts[name] = self.start("airflow", *arguments, output=log.fileno(), environment=own)

    def _start_database(self) -> None:
        # Postgres does not run as root; Debian has a user for it.
        owner = "postgres" if os.geteuid() == 0 else None
        if owner:
            shutil.chown(self._database, owner, owner)
        folder = str(self._database / "data")
        initialise = [_program("initdb"), "-D", folder, "-U", "airflow", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(initialise, check=True, stdout=subprocess.DEVNULL, user=owner, cwd="/")
        settings = ("listen_addresses=127.0.0.1", "max_connections=300", "fsync=off")
        options = [word for setting in settings for word in ("-c", setting)]
        command = [
            _program("postgres"),
            "-D",
            folder,
            "-p",
            str(self.database_port),
            "-k",
            str(self._database),
            *options,
        ]
        self._start_program("postgres", command, owner)
        ready = [_program("pg_isready"), "-h", "127.0.0.1", "-p", str(self.database_port)]
        deadline = time.monotonic() + 60
        while subprocess.run(ready, check=False, stdout=subprocess.DEVNULL).returncode:
            if time.monotonic() > deadline:
                raise RuntimeError(f"Postgres did not start:\n{(self.home / 'postgres.log').read_text()}")
            time.sleep(0.2)

    def _start_broker(self) -> None:
        options = ["--port", str(self.broker_port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.home)]
        self._start_program("redis", [_program("redis-server"), *options])

    def _start_program(self, name: str, command: list[str], user: str | None = None) -> None:
        with (self.home / f"{name}.log").open("w") as log:
            self.processes.append(
                subprocess.Popen(
                    command, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True, user=user, cwd="/"
                )
            )


def _program(name: str) -> str:
    found = find_program(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed: apt-get install postgresql redis-server")
    return found
