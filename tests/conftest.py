from __future__ import annotations

import fcntl
import gc
import importlib
import os
import shutil
import ssl
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dev.airflow_environment import EXAMPLE_DAGS, airflow_environment, run_airflow

pytest_plugins = ["airflow_provider_mps.emulator.fixtures"]

# Airflow reads its environment when it is imported, so it is set before any test module is.
HOME = Path(tempfile.mkdtemp(prefix="mps-tests-"))
DAGS = HOME / "dags"
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # it would call Google
for name in list(os.environ):
    if name.startswith(("AIRFLOW", "TENCENTCLOUD_", "TKE_")):
        del os.environ[name]
os.environ.update(airflow_environment(HOME, DAGS))
# Requests to servers of the tests must not go to a proxy of the machine. Both spellings, because lower case takes
# precedence; "*" exempts all hosts only if it is the whole value.
no_proxy = os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")).strip()
if no_proxy != "*":
    no_proxy = ",".join(filter(None, [no_proxy, "127.0.0.1", "localhost"]))
os.environ.update(NO_PROXY=no_proxy, no_proxy=no_proxy)


def pytest_configure(config):
    for folder in (EXAMPLE_DAGS, Path(__file__).parent / "integration" / "dags"):
        shutil.copytree(folder, DAGS, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    sys.path.insert(0, str(DAGS))


def pytest_sessionstart(session):
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal:  # the workers have none
        session.config.pluginmanager.register(FailurePrinter(terminal))


class FailurePrinter:
    """Print a failure at once, because a run that is ended has no summary."""

    def __init__(self, terminal):
        self.terminal = terminal

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.terminal.write_line(f"\nFAILED {report.nodeid}\n{report.longreprtext[-2000:]}")


def pytest_unconfigure(config):
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups here
def pytest_collection_modifyitems(items):
    """
    Start with what takes longest, so that no worker of several is left with it at the end.

    One worker runs the DAGs of a folder, because the first run of a process takes some seconds more.
    """
    for item in items:
        if "run_dag" in item.fixturenames and not item.get_closest_marker("xdist_group"):
            folder = item.path.relative_to(Path(__file__).parent).parts[0]
            item.add_marker(pytest.mark.xdist_group(f"dags of {folder}"))
    slow = ("airflow_standalone", "benchmark", "kill", "slow", "xdist_group")
    items.sort(key=lambda item: next((at for at, name in enumerate(slow) if item.get_closest_marker(name)), len(slow)))


def pytest_make_parametrize_id(val):
    """Shorten the ids of long values: they are sent between workers, which must agree on them, and some hold a time."""
    if isinstance(val, str | bytes) and len(val) > 80:
        return f"{val[:30]!a} and so on, {len(val)} long"
    return None


def pytest_collection_finish():
    gc.freeze()  # or each garbage collection in a test would look through all modules and all tests


@pytest.fixture(scope="session")
def airflow_database(tmp_path_factory):
    """A migrated metadata database, for what runs DAGs. The first worker of a run makes it, the others copy it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which all workers of this run share
    migrated = folder / "migrated.db"
    with (folder / "migrated.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if migrated.exists():
            shutil.copy(migrated, HOME / "airflow.db")
        else:
            run_airflow(dict(os.environ), "db", "migrate")
            shutil.copy(HOME / "airflow.db", migrated)


@dataclass
class Run:
    """What came of a DAG run."""

    state: str
    tasks: dict[str, tuple[str, int]]
    """State and try number of each task."""
    instances: dict[str, Any]

    def xcom(self, task_id: str, key: str = "return_value") -> Any:
        return self.instances[task_id].xcom_pull(task_ids=task_id, key=key)


@pytest.fixture
def run_dag(airflow_database):
    """Run a DAG of the tests' DAG folder on a real Airflow, and return the outcome."""

    def run(module: str, dag_id: str, **conf: Any) -> Run:
        importlib.invalidate_caches()  # a test may just have written the module
        dag = vars(importlib.import_module(module))[dag_id]
        if not hasattr(dag, "test"):
            dag = dag()
        finished = dag.test(run_conf=conf)
        instances = {instance.task_id: instance for instance in finished.get_task_instances()}
        return Run(
            str(finished.state),
            {name: (str(instance.state), instance.try_number) for name, instance in instances.items()},
            instances,
        )

    return run


@pytest.fixture
def start_emulator(start_mps_emulator):
    return start_mps_emulator


@pytest.fixture
def emulator(mps_emulator):
    return mps_emulator


@pytest.fixture
def connect(monkeypatch):
    """Point the connection mps_default at a URI."""
    return lambda uri: monkeypatch.setenv("AIRFLOW_CONN_MPS_DEFAULT", uri)


@pytest.fixture(autouse=True)
def no_retry_delays(monkeypatch):
    """Missing connections and wrong keys fail at once: here, no connection is being edited."""
    from tenacity import wait_none

    monkeypatch.setattr("airflow_provider_mps.api.retry.wait_exponential", wait_none)
    monkeypatch.setattr("airflow_provider_mps.api.retry.wait_fixed", lambda _: wait_none())
    monkeypatch.setattr("airflow_provider_mps.polling.intervals.FIRST_USE_GRACE_SECONDS", 0.0)
    monkeypatch.setattr("airflow_provider_mps.polling.request_gate.ACCEPTED_CONN_IDS", set())


@pytest.fixture
def no_network_variables(monkeypatch):
    """Remove the proxy and certificate variables of the machine that runs the tests."""
    for name in list(os.environ):
        if name.lower().endswith(("_proxy", "_ca_bundle")) or name in {"SSL_CERT_FILE", "SSL_CERT_DIR"}:
            monkeypatch.delenv(name)


@pytest.fixture
def loaded_certificates(monkeypatch):
    """The files whose certificates the test has loaded; none is loaded before."""
    from airflow_provider_mps.api import network_settings

    files, load = [], ssl.SSLContext.load_verify_locations

    def record(context, cafile=None, *rest):
        files.append(cafile)
        load(context, cafile, *rest)

    network_settings._make_tls_context.cache_clear()
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", record)
    return files


@pytest.fixture
def no_waiting(monkeypatch):
    """Let retries follow each other at once: what is tested is whether there are any."""
    from tenacity import wait_none

    monkeypatch.setattr("airflow_provider_mps.api.retry.wait_random_exponential", lambda **_: wait_none())
    monkeypatch.setattr("airflow_provider_mps.storage.download.MAX_BACKOFF_SECONDS", 0.0)


@pytest.fixture
def sent(monkeypatch):
    """The moments at which requests are sent; a busy machine may let them arrive closer together."""
    from airflow_provider_mps.hooks.mps import MpsHook

    moments, call = [], MpsHook.acall_once

    async def acall_once(hook, *arguments):
        moments.append(time.monotonic())
        return await call(hook, *arguments)

    monkeypatch.setattr(MpsHook, "acall_once", acall_once)
    return moments
