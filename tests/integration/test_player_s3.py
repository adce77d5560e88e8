"""The Listen view of an object in a real S3 server."""

import json
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.emulator.speech import speak
from airflow_provider_mps.player.audio_file import AudioFile, NoAudioError
from airflow_provider_mps.player.stored_audio import RecordedAudio, find_recorded_audio
from airflow_provider_mps.player.waveform import compute_waveform

AUDIO = speak("A clip in a bucket. " * 40, voice="tone")


@pytest.fixture
def clip(s3):
    """A clip behind a stock connection: rclone sends the checksum of the whole object beside a range of it."""
    path = ObjectStoragePath(f"{s3.root}clip.wav")
    path.write_bytes(AUDIO)
    return path


def test_range_and_whole_audio_are_read_from_s3(clip):
    audio = AudioFile.find(str(clip))
    assert (audio.size, audio.content_type) == (len(AUDIO), "audio/wav")
    assert b"".join(audio.read(0, audio.size)) == AUDIO
    assert b"".join(audio.read(1000, 2000)) == AUDIO[1000:2000]


def test_waveform_is_computed_from_s3(clip):
    assert max(compute_waveform(AudioFile.find(str(clip)))) > 0.1


def test_replaced_object_has_another_etag(clip):
    before = AudioFile.find(str(clip))
    clip.write_bytes(AUDIO[:-2] + b"xy")
    assert AudioFile.find(str(clip)).etag != before.etag


def test_missing_object_is_explained(clip):
    clip.unlink()
    with pytest.raises(NoAudioError, match=r"does not exist\. It was moved or deleted"):
        AudioFile.find(str(clip))


@pytest.mark.parametrize("setting", [{}, {"response_checksum_validation": "when_supported"}])
@pytest.mark.parametrize("scheme", ["s3", "s3a"])
def test_range_is_read_although_server_sends_whole_checksum(s3, clip, monkeypatch, setting, scheme):
    key = "clip.wav"
    response = s3.client().get_object(Bucket="clips", Key=key, Range="bytes=0-9", ChecksumMode="ENABLED")
    assert len(response["Body"]._raw_stream.read()) == 10
    assert [header for header in response["ResponseMetadata"]["HTTPHeaders"] if header.startswith("x-amz-checksum-")]
    connection = json.loads(s3.connection())
    connection["extra"]["config_kwargs"] = setting
    monkeypatch.setenv(f"AIRFLOW_CONN_{s3.conn_id.upper()}", json.dumps(connection))
    audio = AudioFile.find(str(clip).replace("s3://", f"{scheme}://"))
    assert b"".join(audio.read(10, 20)) == AUDIO[10:20]


def test_xcoms_in_s3_are_found(s3, clip, monkeypatch):
    from airflow.providers.common.io.xcom import backend as module

    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", f"{module.__name__}.XComObjectStorageBackend")
    monkeypatch.setattr(module, "_get_base_path", lambda: ObjectStoragePath(f"{s3.root}xcoms"))
    monkeypatch.setattr(module, "_get_threshold", lambda: 0)
    pushed = {"return_value": str(clip), "VoiceId": "voice-1", "duration": 1.5}
    serialize = module.XComObjectStorageBackend.serialize_value
    rows = [SimpleNamespace(key=key, value=serialize(value, key=key)) for key, value in pushed.items()]
    assert all(row.value.startswith(f"{s3.root}xcoms/") for row in rows)
    session = SimpleNamespace(execute=lambda _: rows, close=lambda: None)
    assert find_recorded_audio("d", "r", "t", -1, session) == RecordedAudio(str(clip), "voice-1", 1.5)
