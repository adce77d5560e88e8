"""The Listen view of an object in a real S3 server."""

import json
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.emulator.speech import speak
from airflow_provider_mps.player.audio_object import AudioObject, NoAudioError
from airflow_provider_mps.player.recorded import RecordedAudio, find_recorded
from airflow_provider_mps.player.waveform import draw

AUDIO = speak("A clip in a bucket. " * 40, voice="tone")


@pytest.fixture
def clip(s3):
    """A clip behind a stock connection: rclone sends the checksum of the whole object beside a range of it."""
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


@pytest.mark.parametrize("setting", [{}, {"response_checksum_validation": "when_supported"}])
@pytest.mark.parametrize("scheme", ["s3", "s3a"])
def test_range_is_read_from_a_server_that_sends_whole_checksums(s3, clip, monkeypatch, setting, scheme):
    key = "clip.wav"
    answer = s3.client().get_object(Bucket="clips", Key=key, Range="bytes=0-9", ChecksumMode="ENABLED")
    assert len(answer["Body"]._raw_stream.read()) == 10
    assert [header for header in answer["ResponseMetadata"]["HTTPHeaders"] if header.startswith("x-amz-checksum-")]
    connection = json.loads(s3.connection())
    connection["extra"]["config_kwargs"] = setting
    monkeypatch.setenv(f"AIRFLOW_CONN_{s3.conn_id.upper()}", json.dumps(connection))
    audio = AudioObject.find(str(clip).replace("s3://", f"{scheme}://"))
    assert b"".join(audio.read(10, 20)) == AUDIO[10:20]


def test_xcoms_that_are_kept_in_s3_are_found(s3, clip, monkeypatch):
    from airflow.providers.common.io.xcom import backend as module

    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", f"{module.__name__}.XComObjectStorageBackend")
    monkeypatch.setattr(module, "_get_base_path", lambda: ObjectStoragePath(f"{s3.root}xcoms"))
    monkeypatch.setattr(module, "_get_threshold", lambda: 0)
    pushed = {"return_value": str(clip), "VoiceId": "voice-1", "duration": 1.5}
    serialize = module.XComObjectStorageBackend.serialize_value
    rows = [SimpleNamespace(key=key, value=serialize(value, key=key)) for key, value in pushed.items()]
    assert all(row.value.startswith(f"{s3.root}xcoms/") for row in rows)
    session = SimpleNamespace(execute=lambda _: rows, close=lambda: None)
    assert find_recorded("d", "r", "t", -1, session) == RecordedAudio(str(clip), "voice-1", 1.5)
