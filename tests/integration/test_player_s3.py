"""The Listen view of an object in a real S3 server."""

import json

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.emulator.speech import speak
from airflow_provider_mps.player.audio_object import AudioObject, NoAudioError
from airflow_provider_mps.player.waveform import draw

AUDIO = speak("A clip in a bucket. " * 40, voice="tone")


@pytest.fixture
def clip(s3, monkeypatch):
    connection = json.loads(s3.connection())
    # rclone tells the checksum of the whole beside a range of it.
    connection["extra"]["config_kwargs"] = {"response_checksum_validation": "when_required"}
    monkeypatch.setenv(f"AIRFLOW_CONN_{s3.conn_id.upper()}", json.dumps(connection))
    path = ObjectStoragePath(f"{s3.root}clip.wav")
    path.write_bytes(AUDIO)
    return path


def test_a_range_and_the_whole_are_read_from_s3(clip):
    audio = AudioObject.find(str(clip))
    assert (audio.size, audio.content_type) == (len(AUDIO), "audio/wav")
    assert b"".join(audio.read(0, audio.size)) == AUDIO
    assert b"".join(audio.read(1000, 2000)) == AUDIO[1000:2000]


def test_it_is_drawn_from_s3(clip):
    assert max(draw(AudioObject.find(str(clip)))) > 0.1


def test_another_object_at_the_same_place_has_another_tag(clip):
    before = AudioObject.find(str(clip))
    clip.write_bytes(AUDIO[:-2] + b"xy")
    assert AudioObject.find(str(clip)).etag != before.etag


def test_an_object_that_is_gone_is_told_as_such(clip):
    clip.unlink()
    with pytest.raises(NoAudioError, match="is not there any more"):
        AudioObject.find(str(clip))
