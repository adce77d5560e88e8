"""Storing to a real S3 server that verifies signatures: rclone."""

import asyncio
import io
import logging
import os
import wave

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from fastcrc import crc64
from fsspec.asyn import sync_wrapper
from s3fs import S3FileSystem

from airflow_provider_mps.exceptions import AudioTransferError, DestinationError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.text_to_speech import TextToSpeechToObjectStorageOperator
from airflow_provider_mps.storage.http_response import AudioMetadata
from airflow_provider_mps.storage.if_exists import ExistingFile, IfExists
from airflow_provider_mps.storage.pipe import Pipe
from airflow_provider_mps.storage.transfer import store_audio
from airflow_provider_mps.storage.writers import open_writer
from tests.scripted_server import HANG, Reply, ScriptedServer, make_audio_reply

LONG = os.urandom(60 * 1024 * 1024)
"""More than one part."""
CLIP = LONG[:3_000_000]


class Instance:
    def __init__(self):
        self.xcoms = {}

    def xcom_push(self, key, value):
        self.xcoms[key] = value


def store(s3, url, key, log):
    store_audio(url, ObjectStoragePath(f"{s3.root}{key}"), get_fresh_url=lambda: url, subject="task task-1", log=log)


@pytest.fixture
def log():
    return logging.getLogger("test")


def test_operator_stores_clip_in_s3_with_connection_in_path(s3, emulator):
    task_id = MpsHook().submit_text_to_speech("hello", "voice-1")
    instance = Instance()
    path = TextToSpeechToObjectStorageOperator(
        task_id="store", mps_task_id=task_id, destination=f"{s3.root}day/"
    ).execute({"ti": instance})
    assert path.startswith(f"{s3.root}day/")
    audio = s3.seen(path.removeprefix(s3.root))
    with wave.open(io.BytesIO(audio)) as speech:
        assert instance.xcoms["duration"] == speech.getnframes() / speech.getframerate()


def test_interrupted_download_in_several_parts_is_complete_in_s3(s3, log):
    broken = lambda request: make_audio_reply(LONG, request, cut_at=55 * 1024 * 1024)  # noqa: E731
    with ScriptedServer(broken, lambda request: make_audio_reply(LONG, request)) as server:
        store(s3, f"{server.url}/long.wav", "long.wav", log)
    assert s3.seen("long.wav") == LONG
    assert s3.unfinished_uploads() == []


@pytest.mark.parametrize("audio", [b"short", LONG], ids=["one part", "several parts"])
def test_unverified_audio_is_not_visible_in_s3(s3, log, audio, no_waiting):
    (s3.folder / "clips" / "a.wav").write_bytes(b"older good object")
    wrong = Reply(audio, 200, {"x-cos-hash-crc64ecma": "1"})
    with ScriptedServer(wrong) as server, pytest.raises(AudioTransferError, match="CRC-64"):
        store(s3, f"{server.url}/a.wav", "a.wav", log)
    assert s3.seen("a.wav") == b"older good object"
    assert s3.unfinished_uploads() == []


def test_missing_bucket_raises_destination_error(s3, log):
    with ScriptedServer(make_audio_reply(b"audio")) as server, pytest.raises(DestinationError, match="bucket"):
        store_audio(
            f"{server.url}/a.wav",
            ObjectStoragePath(f"s3://{s3.conn_id}@nosuchbucket/a.wav"),
            get_fresh_url=lambda: "",
            subject="task task-1",
            log=log,
        )


def test_wrong_s3_secret_is_a_permission_error(s3, log, monkeypatch):
    monkeypatch.setenv(f"AIRFLOW_CONN_{s3.conn_id.upper()}", s3.connection(secret="wrong"))
    with (
        ScriptedServer(make_audio_reply(b"audio")) as server,
        pytest.raises(DestinationError, match="permission") as caught,
    ):
        store(s3, f"{server.url}/a.wav", "a.wav", log)
    assert f"{s3.root}a.wav" in str(caught.value)
    assert s3.seen("a.wav") is None


def test_discarded_clip_sends_no_s3_request(s3, requests_to_s3):
    file = open_writer(ObjectStoragePath(f"{s3.root}a.wav"))
    file.write(bytearray(b"audio"))
    file.discard()
    assert requests_to_s3 == []


@pytest.fixture
def requests_to_s3(monkeypatch):
    """Return the list of S3 calls, in order."""
    calls = []
    call = S3FileSystem._call_s3

    async def record(fs, method, *args, **kwargs):
        calls.append(method)
        return await call(fs, method, *args, **kwargs)

    monkeypatch.setattr(S3FileSystem, "_call_s3", record)
    monkeypatch.setattr(S3FileSystem, "call_s3", sync_wrapper(record))
    return calls


def test_short_clip_takes_one_download_and_one_s3_request(s3, log, requests_to_s3):
    with ScriptedServer(make_audio_reply(b"audio")) as server:
        store(s3, f"{server.url}/a.wav", "a.wav", log)
        assert len(server.requests) == 1
    assert requests_to_s3 == ["put_object"]


def test_s3_object_has_content_type_of_audio(s3, log):
    for key, audio in (("short.wav", b"audio"), ("long.wav", LONG)):
        with ScriptedServer(lambda request, audio=audio: make_audio_reply(audio, request)) as server:
            store(s3, f"{server.url}/a", key, log)
        assert s3.client().head_object(Bucket="clips", Key=key)["ContentType"] == "audio/wav"


def test_truncated_s3_upload_is_not_completed(s3, monkeypatch):
    call = S3FileSystem._call_s3

    async def lose_half_a_part(fs, method, *args, **kwargs):
        if method == "upload_part" and kwargs["PartNumber"] == 1:
            kwargs["Body"] = kwargs["Body"].read(1024)
        return await call(fs, method, *args, **kwargs)

    monkeypatch.setattr(S3FileSystem, "_call_s3", lose_half_a_part)
    file = open_writer(ObjectStoragePath(f"{s3.root}a.wav"), length=len(LONG))
    size = file.get_block_size(0)
    for first in range(0, len(LONG), size):
        file.write(bytearray(LONG[first : first + size]))
    with pytest.raises(OSError, match=f"of {len(LONG)} bytes"):
        file.commit()
    file.discard()
    assert s3.seen("a.wav") is None
    assert s3.unfinished_uploads() == []


def test_silent_s3_server_ends_at_transfer_timeout(s3, log, monkeypatch):
    with ScriptedServer(HANG) as silent, ScriptedServer(make_audio_reply(b"audio")) as server:
        conn_id = f"silent_{silent.port}"
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", s3.connection(url=silent.url))
        with pytest.raises(AudioTransferError, match="task task-1 was not stored within 1 seconds"):
            store_audio(
                f"{server.url}/a.wav",
                ObjectStoragePath(f"s3://{conn_id}@clips/a.wav"),
                get_fresh_url=lambda: "",
                subject="task task-1",
                log=log,
                timeout=1,
            )


class ManyParts:
    """A server that lists parts page by page, or repeats one page forever."""

    def __init__(self, pages):
        self.pages = pages

    async def list_parts(self, method, **arguments):
        assert method == "list_parts"
        number = arguments["PartNumberMarker"]
        page = self.pages[min(number, len(self.pages) - 1)]
        return {"Parts": [{"Size": size} for size in page["sizes"]], "ResponseMetadata": {"HTTPHeaders": {}}, **page}


@pytest.mark.parametrize(
    ("pages", "size"),
    [
        (
            [
                {"sizes": [5, 6], "IsTruncated": True, "NextPartNumberMarker": 1},
                {"sizes": [7], "IsTruncated": False, "NextPartNumberMarker": 2},
            ],
            18,
        ),
        ([{"sizes": [5], "IsTruncated": True, "NextPartNumberMarker": 0}], 5),
    ],
    ids=["two pages", "page with its own marker"],
)
def test_parts_size_adds_up_all_pages(s3, monkeypatch, pages, size):
    file = open_writer(ObjectStoragePath(f"{s3.root}a.wav"))
    monkeypatch.setattr(S3FileSystem, "_call_s3", ManyParts(pages).list_parts)
    assert file._get_parts_size() == size


def test_two_parts_are_in_flight_to_distant_s3_server(s3, monkeypatch):
    call, in_flight, most = S3FileSystem._call_s3, [], []

    async def respond_slowly(fs, method, *args, **kwargs):
        if method == "upload_part":
            in_flight.append(kwargs["PartNumber"])
            most.append(len(in_flight))
            async with asyncio.timeout(60):
                while max(most) < 2:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)  # time for a third part to start
            in_flight.remove(kwargs["PartNumber"])
        return await call(fs, method, *args, **kwargs)

    monkeypatch.setattr(S3FileSystem, "_call_s3", respond_slowly)
    pipe = Pipe(open_writer(ObjectStoragePath(f"{s3.root}a.wav"), length=len(LONG)), lambda: None)
    for first in range(0, len(LONG), 100_000):
        pipe.write(LONG[first : first + 100_000])
    pipe.commit()
    assert max(most) == 2
    assert s3.seen("a.wav") == LONG


@pytest.mark.parametrize("existing_audio", [CLIP, CLIP[::-1]], ids=["same audio", "other audio of the same size"])
def test_skip_in_s3_compares_crc64_with_one_read(s3, log, requests_to_s3, existing_audio):
    (s3.folder / "clips" / "a.wav").write_bytes(existing_audio)
    with ScriptedServer(lambda request: make_audio_reply(CLIP, request)) as server:
        url = f"{server.url}/a.wav"
        path = ObjectStoragePath(f"{s3.root}a.wav")
        stored = store_audio(
            url, path, get_fresh_url=lambda: url, subject="task task-1", log=log, if_exists=IfExists.SKIP
        )
    assert (stored.size, stored.crc64) == (len(CLIP), crc64.xz(CLIP))
    assert s3.seen("a.wav") == CLIP
    assert requests_to_s3 == ["head_object", "get_object"] + ["put_object"] * (existing_audio != CLIP)


def test_skip_with_crc64_in_header_reads_no_audio(s3, monkeypatch):
    call, read = S3FileSystem._call_s3, []

    async def respond_like_cos(fs, method, *args, **kwargs):
        response = await call(fs, method, *args, **kwargs)
        if method == "get_object":
            response["ResponseMetadata"]["HTTPHeaders"]["x-cos-hash-crc64ecma"] = str(crc64.xz(b"audio"))
            monkeypatch.setattr(response["Body"], "read", read.append)
        return response

    monkeypatch.setattr(S3FileSystem, "_call_s3", respond_like_cos)
    (s3.folder / "clips" / "a.wav").write_bytes(b"audio")
    existing = ExistingFile(ObjectStoragePath(f"{s3.root}a.wav"), 5, "task-1", lambda: None)
    assert existing.is_audio_of(AudioMetadata(length=5, crc64=crc64.xz(b"audio")))
    assert read == []


def test_bucket_without_key_is_rejected(s3, log):
    with ScriptedServer(make_audio_reply(b"audio")) as server, pytest.raises(DestinationError, match="is a bucket"):
        store(s3, f"{server.url}/a.wav", "", log)
