"""Two tries that write one destination at once: it holds one of the two, whole."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.errors import AudioTransferError
from airflow_provider_mps.transfer.uncommitted import open_uncommitted
from tests.storing import OLD, make_wav, open_place, run_servers, store

servers = pytest.fixture(run_servers, scope="module")
place = pytest.fixture(open_place, params=["file", "s3"])


@pytest.fixture(scope="module")
def audios(tmp_path_factory):
    """Two of three parts each, and not of one length."""
    folder = tmp_path_factory.mktemp("audio")
    return [make_wav(folder / f"{seconds}.wav", seconds) for seconds in (660, 630)]


@pytest.mark.parametrize("faults", ["", "truncate, reset"], ids=["both pass", "both break"])
def test_the_destination_holds_one_of_the_two_whole_and_nothing_else_is_left(
    servers, place, audios, faults, no_waiting
):
    place.put(OLD)
    recordings = [servers.record(audio, faults) for audio in audios]
    together = threading.Barrier(2)

    def try_to_store(recording):
        together.wait()
        store(recording, place)

    with ThreadPoolExecutor(2) as workers:
        for done in [workers.submit(try_to_store, recording) for recording in recordings]:
            done.result()
    assert place.seen() in [recording.read() for recording in recordings]
    assert place.litter() == []


def test_one_that_fails_takes_nothing_from_the_other(servers, place, audios, no_waiting):
    place.put(OLD)
    bad = servers.record(audios[0], "wrong-crc:always")
    good = servers.record(audios[1])
    with ThreadPoolExecutor(2) as workers:
        failing, storing = (workers.submit(store, recording, place) for recording in (bad, good))
        storing.result()
        assert isinstance(failing.exception(), AudioTransferError)
    assert place.seen() == good.read()
    assert place.litter() == []


def test_one_that_fails_does_not_take_the_folder_that_the_other_writes_in(tmp_path):
    failing, storing = (open_uncommitted(ObjectStoragePath(f"file://{tmp_path}/new/{name}.wav")) for name in "ab")
    storing.write(bytearray(b"audio"))
    failing.discard()
    storing.commit()
    assert (tmp_path / "new" / "b.wav").read_bytes() == b"audio"
