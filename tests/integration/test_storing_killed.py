"""A task that is ended while its audio is on its way: in a process of its own, which runs a real Airflow."""

import signal
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.processes import ChildProcess
from tests.store_alone import run_dag_alone
from tests.storing import OLD, Bucket, make_wav, open_place, run_servers, store

SECONDS = 1_320
"""Of audio: 40 MiB, of which half are two parts of an upload, and some more."""
HALF = 2 * 8 * 1024 * 1024

pytestmark = [pytest.mark.kill, pytest.mark.xdist_group("child_processes")]

servers = pytest.fixture(run_servers, scope="module")
place = pytest.fixture(open_place, params=["file", "s3"])


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    return make_wav(tmp_path_factory.mktemp("audio") / "long.wav", SECONDS)


@pytest.fixture
def stalling(servers, audio):
    """An audio that stalls half way, so many times."""
    return lambda times: servers.record(audio, f"stall:{times}")


class Worker(ChildProcess):
    """A process that runs a DAG of one task."""

    def __init__(self, recording, place, output, dag_id="storing_once"):
        conf = {"mps_task_id": recording.task_id, "destination": place.destination}
        super().__init__(run_dag_alone, dag_id, conf, output=output)
        self._place = place

    def wait_until_half_is_there(self):
        self.wait_until(lambda: self._arrived() >= HALF)

    def wait_until_nothing_is_there(self):
        self.wait_until(lambda: self._arrived() == 0)

    def _arrived(self):
        """Bytes that have come as far as a store or disk, where nobody sees them."""
        if isinstance(self._place, Bucket):
            return self._place.unseen_bytes()
        size = 0
        for descriptor in list(Path(f"/proc/{self.pid}/fd").iterdir()):
            with suppress(OSError):  # it has been closed meanwhile
                if str(descriptor.readlink()).startswith(str(self._place.folder)):
                    size += descriptor.stat().st_size
        return size


@pytest.fixture
def work(airflow_database, tmp_path):
    return partial(Worker, output=tmp_path / "output.txt")


def test_a_worker_that_is_killed_outright_shows_nothing_and_the_next_try_stores_the_audio(work, stalling, place):
    place.put(OLD)
    recording = stalling(1)
    with work(recording, place) as worker:
        worker.wait_until_half_is_there()
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    assert place.seen() == OLD
    # Nobody was there any more to abort the upload: its parts are seen by nobody, and wait for the bucket's rules.
    left = ["unfinished upload of clip.wav"] if isinstance(place, Bucket) else []
    assert place.litter() == left
    store(recording, place)
    assert place.seen() == recording.read()
    assert place.litter() == left


def test_a_task_that_airflow_ends_discards_what_it_has_uploaded_and_may_be_tried_again(work, stalling, place):
    place.put(OLD)
    recording = stalling("always")
    with work(recording, place, dag_id="storing_retried") as worker:
        for _ in range(2):
            worker.wait_until_half_is_there()
            worker.send_signal(signal.SIGTERM)
            worker.wait_until_nothing_is_there()
            assert place.seen() == OLD
            assert place.litter() == []
        printed = worker.wait()
    assert "OUTCOME failed 2" in printed
    assert f"{recording.task_id} at {place.destination} was stopped by Airflow" in printed
    assert place.seen() == OLD
    assert place.litter() == []


def test_an_execution_timeout_is_reported_as_one_and_leaves_nothing(run_dag, stalling, place, capfd):
    place.put(OLD)
    conf = {"mps_task_id": stalling("always").task_id, "destination": place.destination}
    run = run_dag("storing", "storing_timed_out", **conf)
    assert run.tasks == {"store": ("failed", 1)}
    assert "AirflowTaskTimeout: Timeout" in capfd.readouterr().out
    assert place.seen() == OLD
    assert place.litter() == []
