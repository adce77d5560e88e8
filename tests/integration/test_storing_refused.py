"""An S3 server that refuses what it is asked for while audio is uploaded to it, over real sockets."""

import json
import time

import pytest

from airflow_provider_mps.errors import AudioTransferError, DestinationError
from tests.faulty_s3 import LOSE_ANSWER, RESET, FaultyS3, Refusal
from tests.storing import OLD, make_wav, run_servers, store

pytestmark = pytest.mark.usefixtures("no_waiting")

INTERNAL_ERROR = Refusal(500, "InternalError")
ACCESS_DENIED = Refusal(403, "AccessDenied")


servers = pytest.fixture(run_servers, scope="module")


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """An audio of three parts, and a clip for a single request."""
    folder = tmp_path_factory.mktemp("audio")
    return {name: make_wav(folder / name, seconds) for name, seconds in {"long": 660, "short": 9}.items()}


@pytest.fixture
def proxy(servers, monkeypatch):
    with FaultyS3(servers.s3.port) as proxy:
        connection = json.loads(servers.s3.connection(url=proxy.url))
        # What is refused for ever takes a minute otherwise: botocore tries five times, and s3fs tries that five times.
        connection["extra"]["config_kwargs"] = {"retries": {"total_max_attempts": 2}}
        monkeypatch.setattr("s3fs.S3FileSystem.retries", 2)
        # Another id for each, for Airflow keeps a filesystem per id.
        monkeypatch.setenv(f"AIRFLOW_CONN_S3_{proxy.port}", json.dumps(connection))
        yield proxy


@pytest.fixture
def bucket(servers, proxy):
    bucket = servers.bucket()
    bucket.destination = f"s3://s3_{proxy.port}@clips/clip.wav"
    bucket.put(OLD)
    return bucket


@pytest.fixture
def record(servers, audio):
    return lambda length, faults="": servers.record(audio[length], faults)


FAULTS = {
    "503": Refusal(503, "SlowDown"),
    "500": INTERNAL_ERROR,
    # S3 may answer 200 before it is done with completing an upload, and tell only in the body what came of it.
    "200 with an error": Refusal(200, "InternalError"),
    "reset half way": RESET,
    "answer lost": LOSE_ANSWER,
    "403": ACCESS_DENIED,
    "no bucket": Refusal(404, "NoSuchBucket"),
}
ONCE = [
    ("long", "CreateMultipartUpload", "reset half way"),
    ("long", "UploadPart", "503"),
    ("long", "UploadPart", "500"),
    ("long", "UploadPart", "reset half way"),
    ("long", "UploadPart", "answer lost"),
    ("long", "ListParts", "500"),
    ("long", "CompleteMultipartUpload", "200 with an error"),
    ("short", "PutObject", "503"),
    ("short", "PutObject", "reset half way"),
    ("short", "PutObject", "answer lost"),
]


@pytest.mark.parametrize(("length", "operation", "fault"), ONCE)
def test_what_is_refused_once_is_asked_again_and_the_audio_is_stored_whole(
    record, bucket, proxy, length, operation, fault
):
    proxy.once(operation, FAULTS[fault])
    recording = record(length)
    store(recording, bucket)
    assert bucket.seen() == recording.read()
    assert bucket.litter() == []
    asked = {"UploadPart": 3}.get(operation, 1)
    assert proxy.operations.count(operation) == asked + 1


SAID = {
    "500": (AudioTransferError, "What was there is unchanged"),
    "503": (AudioTransferError, "What was there is unchanged"),
    "reset half way": (AudioTransferError, "What was there is unchanged"),
    "403": (DestinationError, "no permission to write"),
    "no bucket": (DestinationError, "bucket or folder does not exist"),
}


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        ("CreateMultipartUpload", "403"),
        ("CreateMultipartUpload", "no bucket"),
        ("UploadPart", "500"),
        ("UploadPart", "503"),
        ("UploadPart", "reset half way"),
        ("UploadPart", "403"),
        ("CompleteMultipartUpload", "500"),
        ("CompleteMultipartUpload", "403"),
        ("PutObject", "500"),
        ("PutObject", "reset half way"),
        ("PutObject", "403"),
        ("PutObject", "no bucket"),
    ],
)
def test_what_is_refused_for_ever_ends_with_the_older_object_and_a_sentence_about_the_destination(
    record, bucket, proxy, operation, fault
):
    proxy.always(operation, FAULTS[fault])
    error, why = SAID[fault]
    recording = record("short" if operation == "PutObject" else "long")
    with pytest.raises(error, match=why) as caught:
        store(recording, bucket)
    assert type(caught.value) is error
    assert bucket.destination in str(caught.value)
    assert recording.task_id in str(caught.value)
    assert bucket.seen() == OLD
    assert bucket.litter() == []


def test_a_refusal_in_the_middle_of_a_long_upload_leaves_no_part_of_it(record, bucket, proxy):
    proxy.once("UploadPart", lambda: None)
    proxy.always("UploadPart", ACCESS_DENIED)
    with pytest.raises(DestinationError, match="permission"):
        store(record("long"), bucket)
    assert proxy.operations.count("UploadPart") > 1
    assert proxy.operations[-1] == "AbortMultipartUpload"
    assert bucket.seen() == OLD
    assert bucket.litter() == []


@pytest.mark.parametrize("if_exists", ["skip", "fail"])
def test_a_look_at_the_destination_needs_no_permission_to_list(record, bucket, proxy, if_exists):
    bucket.clear()
    proxy.always("GET", ACCESS_DENIED)  # which is how folders are listed
    recording = record("short")
    store(recording, bucket, if_exists=if_exists)
    assert bucket.seen() == recording.read()


def test_a_look_that_is_refused_says_so_and_names_the_task(record, bucket, proxy):
    proxy.always("HeadObject", ACCESS_DENIED)
    recording = record("short")
    with pytest.raises(DestinationError, match=rf"{recording.task_id} was not stored: .*no permission to look at"):
        store(recording, bucket, if_exists="skip")


def test_where_neither_the_parts_nor_the_answer_to_the_commit_tell_nothing_is_claimed(record, bucket, proxy):
    proxy.always("ListParts", ACCESS_DENIED)
    proxy.once("CompleteMultipartUpload", LOSE_ANSWER)
    recording = record("long")
    with pytest.raises(AudioTransferError, match="Either what was there is unchanged, or the audio is there, whole"):
        store(recording, bucket)
    assert bucket.seen() == recording.read()
    assert bucket.litter() == []


def test_where_the_parts_may_not_be_listed_audio_is_stored_and_the_log_says_that_nothing_was_confirmed(
    record, bucket, proxy, capfd
):
    proxy.always("ListParts", ACCESS_DENIED)
    recording = record("long")
    store(recording, bucket)
    assert bucket.seen() == recording.read()
    assert bucket.litter() == []
    assert "its store confirms nothing" in capfd.readouterr().out


def test_a_discard_that_is_refused_once_is_asked_for_again(record, bucket, proxy):
    proxy.once("AbortMultipartUpload", INTERNAL_ERROR)
    with pytest.raises(AudioTransferError, match="CRC-64"):
        store(record("long", "wrong-crc:always"), bucket)
    assert bucket.seen() == OLD
    assert bucket.litter() == []


def test_a_discard_that_is_not_permitted_is_told_and_does_not_hide_what_went_wrong(record, bucket, proxy, capfd):
    proxy.always("AbortMultipartUpload", ACCESS_DENIED)
    with pytest.raises(AudioTransferError, match="redirects to a link of the scheme 'file'"):
        store(record("long", "truncate, redirect-to-file"), bucket)
    assert bucket.seen() == OLD
    assert bucket.litter() == ["unfinished upload of clip.wav"]
    assert f"What was written towards {bucket.destination} could not be discarded" in capfd.readouterr().out


def test_an_upload_whose_id_never_arrived_is_all_that_can_linger(record, bucket, proxy):
    # Nobody can abort it who has not heard of it; a lifecycle rule of the bucket can.
    proxy.once("CreateMultipartUpload", LOSE_ANSWER)
    recording = record("long")
    store(recording, bucket)
    assert bucket.seen() == recording.read()
    assert bucket.litter() == ["unfinished upload of clip.wav"]


@pytest.mark.parametrize(
    ("operation", "times"),
    [("CompleteMultipartUpload", "once"), ("CompleteMultipartUpload", "always"), ("PutObject", "always")],
)
def test_where_the_answer_to_the_commit_is_lost_nobody_is_told_that_the_older_object_is_still_there(
    record, bucket, proxy, operation, times
):
    getattr(proxy, times)(operation, LOSE_ANSWER)
    recording = record("short" if operation == "PutObject" else "long")
    said = ""
    try:
        store(recording, bucket)
    except AudioTransferError as error:
        said = str(error)
    assert "unchanged" not in said
    assert bucket.seen() == recording.read()
    assert bucket.litter() == []


def test_completed_upload_dated_long_before_its_completion_is_recognised(record, bucket, proxy):
    # rclone, like S3, gives the object an earlier date than that of its completion, and here not the ETag of its parts.
    proxy.once("ListParts", lambda: time.sleep(2.5))
    proxy.always("CompleteMultipartUpload", LOSE_ANSWER)
    recording = record("long")
    store(recording, bucket)
    assert bucket.seen() == recording.read()
