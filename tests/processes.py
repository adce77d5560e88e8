"""
Processes of a test's own, to be killed or limited: forked from a server that has imported Airflow once.

Importing Airflow takes seconds of CPU time in each new interpreter, and some tests start a dozen of them.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

PRELOADED_MODULES = (
    "tests.batch_alone",
    "tests.store_alone",
    "tests.clone_alone",
    "tests.track_alone",
    "airflow_provider_mps.storage.transfer",
    "airflow_provider_mps.batch.run",
    "airflow_provider_mps.batch.track.assemble",
    "airflow_provider_mps.api.retry",
    "airflow_provider_mps.api.client",
    "airflow_provider_mps.api.connection_lookup",
    "airflow.providers.amazon.aws.fs.s3",
    "s3fs",
    # For `dag.test()`.
    "airflow.api_fastapi.execution_api.app",
    "airflow.api_fastapi.execution_api.routes",
    "airflow.api_fastapi.execution_api.versions",
    "airflow.dag_processing.bundles.local",
    "airflow.dag_processing.collection",
    "airflow.dag_processing.dagbag",
    "airflow.jobs.job",
    "airflow.models.dagrun",
    "airflow.providers.standard.decorators.python",
    "airflow.sdk.execution_time.supervisor",
    "airflow.serialization.serialized_objects",
)
END_TIMEOUT_SECONDS = 120.0
"""Only a process that hangs takes as long."""

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(PRELOADED_MODULES))


class ChildProcess:
    """
    A real process, with this one's environment and folder; while the ``with`` block runs.

    :param function: what it runs
    :param arguments: of the function
    :param output: the file that takes what it prints
    :param environment: variables to add
    :param limits: called before the function, to limit the process
    """

    def __init__(
        self,
        function: Callable[..., object],
        *arguments: Any,
        output: Path,
        environment: Mapping[str, str] | None = None,
        limits: Sequence[Callable[[], object]] = (),
    ) -> None:
        _start_server()
        self._output = output
        variables = {**os.environ, **(environment or {})}
        self._process = _context.Process(
            target=_run, args=(function, arguments, str(output), variables, str(Path.cwd()), limits)
        )
        self._process.start()

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    @property
    def pid(self) -> int:
        assert self._process.pid
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """``None`` while it runs; negative where a signal has ended it."""
        return self._process.exitcode

    @property
    def printed(self) -> str:
        return self._output.read_text() if self._output.exists() else ""

    def send_signal(self, number: int) -> None:
        if self.exit_code is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float = END_TIMEOUT_SECONDS) -> str:
        """Wait for its end; return what it has printed."""
        self._process.join(timeout)
        assert self.exit_code is not None, f"still running after {timeout:g} seconds:\n{self.printed[-3000:]}"
        return self.printed

    def wait_until(self, condition: Callable[[], object], timeout: float = END_TIMEOUT_SECONDS) -> None:
        """Wait for something that it does."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert self.exit_code is None, self.printed[-3000:]
            assert time.monotonic() < deadline, self.printed[-3000:]
            time.sleep(0.02)


def _start_server() -> None:
    """Start the server of all processes with this one's ``sys.path``, which Python 3.11 does not give to it."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _run(
    function: Callable[..., object],
    arguments: Sequence[Any],
    output: str,
    environment: Mapping[str, str],
    folder: str,
    limits: Sequence[Callable[[], object]],
) -> None:
    # The server has the environment, the folder and the output of the test that started it.
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.close(file)
    for limit in limits:
        limit()
    function(*arguments)


_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_PRIVATE_RECURSIVE = (1 << 18) | (1 << 14)
_PR_CAPBSET_DROP = 24
_CAPABILITY_VERSION = 0x20080522
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2


def mount_small_disk(folder: Path, size: int) -> None:
    """Mount a disk that only this process sees, as ``unshare --map-root-user --mount`` does."""
    user, group = os.geteuid(), os.getegid()
    _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNS)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _call("mount", b"none", b"/", None, _MS_PRIVATE_RECURSIVE, None)
    _call("mount", b"none", os.fsencode(folder), b"tmpfs", 0, f"size={size}".encode())


def drop_file_capabilities() -> None:
    """Let file permissions count for root too, as ``setpriv`` does."""
    if os.geteuid():
        return
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    # Effective, permitted and inheritable, 32 capabilities each; then the same of the other capabilities.
    sets = (ctypes.c_uint32 * 6)()
    _call("capget", header, sets)
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        _call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)
        for number in range(3):
            sets[number] &= ~(1 << capability)
    _call("capset", header, sets)


def _call(name: str, *arguments: Any) -> None:
    """Call a function of the C library."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments):
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
