"""Storing to a real S3 server, which checks signatures: rclone."""

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

from airflow_provider_mps.audio import store_audio
from airflow_provider_mps.choice import IfExists
from airflow_provider_mps.errors import AudioTransferError, DestinationError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.text_to_speech import TextToSpeechToObjectStorageOperator
from airflow_provider_mps.transfer.download import Source
from airflow_provider_mps.transfer.existing import ExistingFile
from airflow_provider_mps.transfer.pipe import Pipe
from airflow_provider_mps.transfer.uncommitted import open_uncommitted
from tests.scripted_server import HANG, Reply, ScriptedServer, audio_reply

LONG = os.urandom(60 * 1024 * 1024)
"""More than one part, so that an upload has several."""
CLIP = LONG[:3_000_000]


class Instance:
    def __init__(self):
        self.xcoms = {}

    def xcom_push(self, key, value):
        self.xcoms[key] = value


def store(s3, url, key, log):
    store_audio(url, ObjectStoragePath(f"{s3.root}{key}"), fresh_url=lambda: url, subject="task task-1", log=log)


@pytest.fixture
def log():
    return logging.getLogger("test")


def test_a_clip_is_stored_in_s3_with_the_connection_in_the_path(s3, emulator):
    task_id = MpsHook().submit_text_to_speech("hello", "voice-1")
    instance = Instance()
    path = TextToSpeechToObjectStorageOperator(
        task_id="store", mps_task_id=task_id, destination=f"{s3.root}day/"
    ).execute({"ti": instance})
    assert path.startswith(f"{s3.root}day/")
    audio = s3.seen(path.removeprefix(s3.root))
    with wave.open(io.BytesIO(audio)) as speech:
        assert instance.xcoms["duration"] == speech.getnframes() / speech.getframerate()


def test_a_long_audio_in_several_parts_is_stored_whole_even_when_the_download_breaks(s3, log):
    broken = lambda request: audio_reply(LONG, request, cut_at=55 * 1024 * 1024)  # noqa: E731
    with ScriptedServer(broken, lambda request: audio_reply(LONG, request)) as server:
        store(s3, f"{server.url}/long.wav", "long.wav", log)
    assert s3.seen("long.wav") == LONG
    assert s3.unfinished_uploads() == []


@pytest.mark.parametrize("audio", [b"short", LONG], ids=["one part", "several parts"])
def test_what_was_not_verified_is_never_visible_and_no_upload_is_left(s3, log, audio, no_waiting):
    (s3.folder / "clips" / "a.wav").write_bytes(b"older good object")
    wrong = Reply(audio, 200, {"x-cos-hash-crc64ecma": "1"})
    with ScriptedServer(wrong) as server, pytest.raises(AudioTransferError, match="CRC-64"):
        store(s3, f"{server.url}/a.wav", "a.wav", log)
    assert s3.seen("a.wav") == b"older good object"
    assert s3.unfinished_uploads() == []


def test_a_missing_bucket_is_an_error_that_says_so(s3, log):
    with ScriptedServer(audio_reply(b"audio")) as server, pytest.raises(DestinationError, match="bucket"):
        store_audio(
            f"{server.url}/a.wav",
            ObjectStoragePath(f"s3://{s3.conn_id}@nosuchbucket/a.wav"),
            fresh_url=lambda: "",
            subject="task task-1",
            log=log,
        )


def test_a_refused_key_is_an_error_about_the_permission(s3, log, monkeypatch):
    monkeypatch.setenv(f"AIRFLOW_CONN_{s3.conn_id.upper()}", s3.connection(secret="wrong"))
    with (
        ScriptedServer(audio_reply(b"audio")) as server,
        pytest.raises(DestinationError, match="permission") as caught,
    ):
        store(s3, f"{server.url}/a.wav", "a.wav", log)
    assert f"{s3.root}a.wav" in str(caught.value)
    assert s3.seen("a.wav") is None


def test_a_discarded_clip_sends_nothing(s3, requests_to_s3):
    file = open_uncommitted(ObjectStoragePath(f"{s3.root}a.wav"))
    file.write(bytearray(b"audio"))
    file.discard()
    assert requests_to_s3 == []


@pytest.fixture
def requests_to_s3(monkeypatch):
    """The calls of S3, in order."""
    calls = []
    call = S3FileSystem._call_s3

    async def listen(fs, method, *args, **kwargs):
        calls.append(method)
        return await call(fs, method, *args, **kwargs)

    monkeypatch.setattr(S3FileSystem, "_call_s3", listen)
    monkeypatch.setattr(S3FileSystem, "call_s3", sync_wrapper(listen))
    return calls


def test_a_short_clip_costs_one_request_there_and_one_here(s3, log, requests_to_s3):
    with ScriptedServer(audio_reply(b"audio")) as server:
        store(s3, f"{server.url}/a.wav", "a.wav", log)
        assert len(server.requests) == 1
    assert requests_to_s3 == ["put_object"]


def test_an_audio_is_kept_with_its_content_type(s3, log):
    for key, audio in (("short.wav", b"audio"), ("long.wav", LONG)):
        with ScriptedServer(lambda request, audio=audio: audio_reply(audio, request)) as server:
            store(s3, f"{server.url}/a", key, log)
        assert s3.client().head_object(Bucket="clips", Key=key)["ContentType"] == "audio/wav"


def test_a_store_that_has_less_than_it_was_sent_does_not_get_to_show_it(s3, monkeypatch):
    call = S3FileSystem._call_s3

    async def lose_half_a_part(fs, method, *args, **kwargs):
        if method == "upload_part" and kwargs["PartNumber"] == 1:
            kwargs["Body"] = kwargs["Body"].read(1024)
        return await call(fs, method, *args, **kwargs)

    monkeypatch.setattr(S3FileSystem, "_call_s3", lose_half_a_part)
    file = open_uncommitted(ObjectStoragePath(f"{s3.root}a.wav"), length=len(LONG))
    size = file.block_size(0)
    for first in range(0, len(LONG), size):
        file.write(bytearray(LONG[first : first + size]))
    with pytest.raises(OSError, match=f"of {len(LONG)} bytes"):
        file.commit()
    file.discard()
    assert s3.seen("a.wav") is None
    assert s3.unfinished_uploads() == []


def test_a_store_that_never_answers_does_not_outlast_the_time_of_the_transfer(s3, log, monkeypatch):
    with ScriptedServer(HANG) as silent, ScriptedServer(audio_reply(b"audio")) as server:
        conn_id = f"silent_{silent.port}"
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", s3.connection(url=silent.url))
        with pytest.raises(AudioTransferError, match="task task-1 was not stored within 1 seconds"):
            store_audio(
                f"{server.url}/a.wav",
                ObjectStoragePath(f"s3://{conn_id}@clips/a.wav"),
                fresh_url=lambda: "",
                subject="task task-1",
                log=log,
                timeout=1,
            )


class ManyParts:
    """A store that tells of its parts page by page, and a broken one that tells the same page for ever."""

    def __init__(self, pages):
        self.pages = pages

    async def tell(self, method, **arguments):
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
    ids=["two pages", "a page that leads to itself"],
)
def test_the_sizes_of_all_parts_are_added_up(s3, monkeypatch, pages, size):
    file = open_uncommitted(ObjectStoragePath(f"{s3.root}a.wav"))
    monkeypatch.setattr(S3FileSystem, "_call_s3", ManyParts(pages).tell)
    assert file._size_of_parts() == size


def test_two_parts_are_under_way_at_once_where_the_store_is_far(s3, monkeypatch):
    call, under_way, most = S3FileSystem._call_s3, [], []

    async def far(fs, method, *args, **kwargs):
        if method == "upload_part":
            under_way.append(kwargs["PartNumber"])
            most.append(len(under_way))
            async with asyncio.timeout(60):
                while max(most) < 2:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)  # in which a third one would come
            under_way.remove(kwargs["PartNumber"])
        return await call(fs, method, *args, **kwargs)

    monkeypatch.setattr(S3FileSystem, "_call_s3", far)
    pipe = Pipe(open_uncommitted(ObjectStoragePath(f"{s3.root}a.wav"), length=len(LONG)), lambda: None)
    for first in range(0, len(LONG), 100_000):
        pipe.write(LONG[first : first + 100_000])
    pipe.commit()
    assert max(most) == 2
    assert s3.seen("a.wav") == LONG


@pytest.mark.parametrize("there", [CLIP, CLIP[::-1]], ids=["same audio", "other audio of the same size"])
def test_skip_in_s3_compares_the_crc64_with_one_read(s3, log, requests_to_s3, there):
    (s3.folder / "clips" / "a.wav").write_bytes(there)
    with ScriptedServer(lambda request: audio_reply(CLIP, request)) as server:
        url = f"{server.url}/a.wav"
        path = ObjectStoragePath(f"{s3.root}a.wav")
        stored = store_audio(url, path, fresh_url=lambda: url, subject="task task-1", log=log, if_exists=IfExists.SKIP)
    assert (stored.size, stored.crc64) == (len(CLIP), crc64.xz(CLIP))
    assert s3.seen("a.wav") == CLIP
    assert requests_to_s3 == ["head_object", "get_object"] + ["put_object"] * (there != CLIP)


def test_skip_reads_no_audio_where_the_header_has_the_crc64(s3, monkeypatch):
    call, read = S3FileSystem._call_s3, []

    async def answer_as_cos_does(fs, method, *args, **kwargs):
        answer = await call(fs, method, *args, **kwargs)
        if method == "get_object":
            answer["ResponseMetadata"]["HTTPHeaders"]["x-cos-hash-crc64ecma"] = str(crc64.xz(b"audio"))
            monkeypatch.setattr(answer["Body"], "read", read.append)
        return answer

    monkeypatch.setattr(S3FileSystem, "_call_s3", answer_as_cos_does)
    (s3.folder / "clips" / "a.wav").write_bytes(b"audio")
    existing = ExistingFile(ObjectStoragePath(f"{s3.root}a.wav"), 5, "task-1", lambda: None)
    assert existing.is_audio_of(Source(length=5, crc64=crc64.xz(b"audio")))
    assert read == []


def test_a_bucket_alone_is_no_destination(s3, log):
    with ScriptedServer(audio_reply(b"audio")) as server, pytest.raises(DestinationError, match="is a bucket"):
        store(s3, f"{server.url}/a.wav", "", log)
