"""Tasks that are killed or stopped during a transfer, in a process that runs a real Airflow."""

import signal
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.processes import ChildProcess
from tests.store_alone import run_dag_alone
from tests.storing import OLD, Bucket, make_wav, open_destination, run_servers, store

SECONDS = 1_320
"""Length of the audio, 40 MiB: half of it is more than two parts of an upload."""
TWO_PARTS_BYTES = 2 * 8 * 1024 * 1024

pytestmark = [pytest.mark.kill, pytest.mark.xdist_group("child_processes")]

servers = pytest.fixture(run_servers, scope="module")
destination = pytest.fixture(open_destination, params=["file", "s3"])


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    return make_wav(tmp_path_factory.mktemp("audio") / "long.wav", SECONDS)


@pytest.fixture
def make_stalling(servers, audio):
    """Make a recording whose download stalls half way, the given number of times."""
    return lambda times: servers.record(audio, f"stall:{times}")


class Worker(ChildProcess):
    """A process that runs a DAG with one task."""

    def __init__(self, recording, destination, output, dag_id="storing_once"):
        conf = {"mps_task_id": recording.task_id, "destination": destination.uri}
        super().__init__(run_dag_alone, dag_id, conf, output=output)
        self._destination = destination

    def wait_until_half_is_uploaded(self):
        self.wait_until(lambda: self._count_uncommitted_bytes() >= TWO_PARTS_BYTES)

    def wait_until_upload_is_discarded(self):
        self.wait_until(lambda: self._count_uncommitted_bytes() == 0)

    def _count_uncommitted_bytes(self):
        """Return the bytes that the storage or disk has, but does not show."""
        if isinstance(self._destination, Bucket):
            return self._destination.count_uncommitted_bytes()
        size = 0
        for descriptor in list(Path(f"/proc/{self.pid}/fd").iterdir()):
            with suppress(OSError):  # closed meanwhile
                if str(descriptor.readlink()).startswith(str(self._destination.folder)):
                    size += descriptor.stat().st_size
        return size


@pytest.fixture
def start_worker(airflow_database, tmp_path):
    return partial(Worker, output=tmp_path / "output.txt")


def test_killed_worker_shows_nothing_and_retry_stores_audio(start_worker, make_stalling, destination):
    destination.put(OLD)
    recording = make_stalling(1)
    with start_worker(recording, destination) as worker:
        worker.wait_until_half_is_uploaded()
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    assert destination.read() == OLD
    # A killed worker cannot abort its upload; its hidden parts remain for the bucket's lifecycle rules.
    leftovers = ["unfinished upload of clip.wav"] if isinstance(destination, Bucket) else []
    assert destination.list_leftovers() == leftovers
    store(recording, destination)
    assert destination.read() == recording.read()
    assert destination.list_leftovers() == leftovers


def test_sigterm_discards_upload_and_task_is_retried(start_worker, make_stalling, destination):
    destination.put(OLD)
    recording = make_stalling("always")
    with start_worker(recording, destination, dag_id="storing_retried") as worker:
        for _ in range(2):
            worker.wait_until_half_is_uploaded()
            worker.send_signal(signal.SIGTERM)
            worker.wait_until_upload_is_discarded()
            assert destination.read() == OLD
            assert destination.list_leftovers() == []
        printed = worker.wait()
    assert "OUTCOME failed 2" in printed
    assert f"{recording.task_id} at {destination.uri} was stopped by Airflow" in printed
    assert destination.read() == OLD
    assert destination.list_leftovers() == []


def test_execution_timeout_is_reported_and_leaves_nothing(run_dag, make_stalling, destination, capfd):
    destination.put(OLD)
    conf = {"mps_task_id": make_stalling("always").task_id, "destination": destination.uri}
    run = run_dag("storing", "storing_timed_out", **conf)
    assert run.tasks == {"store": ("failed", 1)}
    assert "AirflowTaskTimeout: Timeout" in capfd.readouterr().out
    assert destination.read() == OLD
    assert destination.list_leftovers() == []
