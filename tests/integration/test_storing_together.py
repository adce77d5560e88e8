"""Two concurrent writers of one destination: it holds one complete object of the two."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.exceptions import AudioTransferError
from airflow_provider_mps.storage.writers import open_writer
from tests.storing import OLD, make_wav, open_destination, run_servers, store

servers = pytest.fixture(run_servers, scope="module")
place = pytest.fixture(open_destination, params=["file", "s3"])


@pytest.fixture(scope="module")
def audios(tmp_path_factory):
    """Two audio files of three parts each, with different lengths."""
    folder = tmp_path_factory.mktemp("audio")
    return [make_wav(folder / f"{seconds}.wav", seconds) for seconds in (660, 630)]


@pytest.mark.parametrize("faults", ["", "truncate, reset"], ids=["no faults", "interrupted downloads"])
def test_concurrent_writers_leave_one_complete_object(servers, place, audios, faults, no_waiting):
    place.put(OLD)
    recordings = [servers.record(audio, faults) for audio in audios]
    together = threading.Barrier(2)

    def store_concurrently(recording):
        together.wait()
        store(recording, place)

    with ThreadPoolExecutor(2) as workers:
        for done in [workers.submit(store_concurrently, recording) for recording in recordings]:
            done.result()
    assert place.read() in [recording.read() for recording in recordings]
    assert place.list_leftovers() == []


def test_failed_writer_does_not_affect_concurrent_one(servers, place, audios, no_waiting):
    place.put(OLD)
    bad = servers.record(audios[0], "wrong-crc:always")
    good = servers.record(audios[1])
    with ThreadPoolExecutor(2) as workers:
        failing, storing = (workers.submit(store, recording, place) for recording in (bad, good))
        storing.result()
        assert isinstance(failing.exception(), AudioTransferError)
    assert place.read() == good.read()
    assert place.list_leftovers() == []


def test_discard_keeps_folder_of_concurrent_writer(tmp_path):
    failing, storing = (open_writer(ObjectStoragePath(f"file://{tmp_path}/new/{name}.wav")) for name in "ab")
    storing.write(bytearray(b"audio"))
    failing.discard()
    storing.commit()
    assert (tmp_path / "new" / "b.wav").read_bytes() == b"audio"
