"""Clone voices from samples in object storage: a real S3 server."""

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.emulator.speech import Style, speak
from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.hooks.voices import make_clone_request
from airflow_provider_mps.speech.audio_sample import MAX_SAMPLE_BYTES
from tests.s3_server import S3Server

WAV = speak("A sample", style=Style(), voice="tone")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        (server.folder / "clips" / "sample.wav").write_bytes(WAV)
        # Before the first request: the server caches which files there are.
        with (server.folder / "clips" / "large.wav").open("wb") as file:
            file.write(WAV)
            file.truncate(20 * MAX_SAMPLE_BYTES)
        yield server


@pytest.fixture
def s3(running, monkeypatch):
    monkeypatch.setenv(f"AIRFLOW_CONN_{running.conn_id.upper()}", running.connection())
    return running


@pytest.mark.parametrize("make_path", [str, ObjectStoragePath])
def test_sample_in_s3_is_cloned(emulator, s3, make_path):
    audio = make_path(f"{s3.root}sample.wav")
    assert make_clone_request(audio, "Me", None, None).sample.data == WAV
    voice_id = MpsHook().clone_voice(audio, "Me")
    assert MpsHook().find_voice("Me").voice_id == voice_id


def test_missing_sample_in_s3_raises_without_retry(s3):
    with pytest.raises(InvalidRequestError, match=r"missing\.wav cannot be read.*nothing was submitted"):
        make_clone_request(f"{s3.root}missing.wav", "Me", None, None)


def test_too_large_sample_in_s3_raises(s3):
    with pytest.raises(InvalidRequestError, match=rf"large\.wav has more than {MAX_SAMPLE_BYTES} bytes"):
        make_clone_request(f"{s3.root}large.wav", "Me", None, None)
