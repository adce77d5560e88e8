"""Uploads to an S3 server that rejects requests or loses responses, over real sockets."""

import json
import time

import pytest

from airflow_provider_mps.exceptions import AudioTransferError, DestinationError
from tests.faulty_s3 import LOSE_RESPONSE, RESET, ErrorResponse, FaultyS3
from tests.storing import OLD, make_wav, run_servers, store

pytestmark = pytest.mark.usefixtures("no_waiting")

INTERNAL_ERROR = ErrorResponse(500, "InternalError")
ACCESS_DENIED = ErrorResponse(403, "AccessDenied")


servers = pytest.fixture(run_servers, scope="module")


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """An audio for an upload of three parts, and one for a single request."""
    folder = tmp_path_factory.mktemp("audio")
    return {name: make_wav(folder / name, seconds) for name, seconds in {"long": 660, "short": 9}.items()}


@pytest.fixture
def proxy(servers, monkeypatch):
    with FaultyS3(servers.s3.port) as proxy:
        connection = json.loads(servers.s3.connection(url=proxy.url))
        # Otherwise a permanent fault takes a minute: botocore makes five attempts, and s3fs repeats these five times.
        connection["extra"]["config_kwargs"] = {"retries": {"total_max_attempts": 2}}
        monkeypatch.setattr("s3fs.S3FileSystem.retries", 2)
        # A new id for each test, because Airflow caches a filesystem per id.
        monkeypatch.setenv(f"AIRFLOW_CONN_S3_{proxy.port}", json.dumps(connection))
        yield proxy


@pytest.fixture
def bucket(servers, proxy):
    bucket = servers.bucket()
    bucket.uri = f"s3://s3_{proxy.port}@clips/clip.wav"
    bucket.put(OLD)
    return bucket


@pytest.fixture
def record(servers, audio):
    return lambda length, faults="": servers.record(audio[length], faults)


FAULTS = {
    "503": ErrorResponse(503, "SlowDown"),
    "500": INTERNAL_ERROR,
    # S3 may send status 200 before it completes an upload, and report a failure in the body.
    "200 with an error": ErrorResponse(200, "InternalError"),
    "reset halfway": RESET,
    "response lost": LOSE_RESPONSE,
    "403": ACCESS_DENIED,
    "no bucket": ErrorResponse(404, "NoSuchBucket"),
}
SINGLE_FAULTS = [
    ("long", "CreateMultipartUpload", "reset halfway"),
    ("long", "UploadPart", "503"),
    ("long", "UploadPart", "500"),
    ("long", "UploadPart", "reset halfway"),
    ("long", "UploadPart", "response lost"),
    ("long", "ListParts", "500"),
    ("long", "CompleteMultipartUpload", "200 with an error"),
    ("short", "PutObject", "503"),
    ("short", "PutObject", "reset halfway"),
    ("short", "PutObject", "response lost"),
]


@pytest.mark.parametrize(("length", "operation", "fault"), SINGLE_FAULTS)
def test_single_s3_fault_is_retried_and_audio_stored(record, bucket, proxy, length, operation, fault):
    proxy.once(operation, FAULTS[fault])
    recording = record(length)
    store(recording, bucket)
    assert bucket.read() == recording.read()
    assert bucket.list_leftovers() == []
    expected = {"UploadPart": 3}.get(operation, 1)
    assert proxy.operations.count(operation) == expected + 1


ERRORS = {
    "500": (AudioTransferError, "It is unchanged"),
    "503": (AudioTransferError, "It is unchanged"),
    "reset halfway": (AudioTransferError, "It is unchanged"),
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
        ("UploadPart", "reset halfway"),
        ("UploadPart", "403"),
        ("CompleteMultipartUpload", "500"),
        ("CompleteMultipartUpload", "403"),
        ("PutObject", "500"),
        ("PutObject", "reset halfway"),
        ("PutObject", "403"),
        ("PutObject", "no bucket"),
    ],
)
def test_permanent_s3_fault_keeps_older_object(record, bucket, proxy, operation, fault):
    proxy.always(operation, FAULTS[fault])
    error, problem = ERRORS[fault]
    recording = record("short" if operation == "PutObject" else "long")
    with pytest.raises(error, match=problem) as caught:
        store(recording, bucket)
    assert type(caught.value) is error
    assert bucket.uri in str(caught.value)
    assert recording.task_id in str(caught.value)
    assert bucket.read() == OLD
    assert bucket.list_leftovers() == []


def test_s3_rejection_during_upload_leaves_no_parts(record, bucket, proxy):
    proxy.once("UploadPart", lambda: None)
    proxy.always("UploadPart", ACCESS_DENIED)
    with pytest.raises(DestinationError, match="permission"):
        store(record("long"), bucket)
    assert proxy.operations.count("UploadPart") > 1
    assert proxy.operations[-1] == "AbortMultipartUpload"
    assert bucket.read() == OLD
    assert bucket.list_leftovers() == []


@pytest.mark.parametrize("if_exists", ["skip", "fail"])
def test_destination_check_needs_no_list_permission(record, bucket, proxy, if_exists):
    bucket.clear()
    proxy.always("GET", ACCESS_DENIED)  # S3 lists folders with GET
    recording = record("short")
    store(recording, bucket, if_exists=if_exists)
    assert bucket.read() == recording.read()


def test_rejected_destination_check_error_names_task(record, bucket, proxy):
    proxy.always("HeadObject", ACCESS_DENIED)
    recording = record("short")
    with pytest.raises(DestinationError, match=rf"{recording.task_id} was not stored: .*no permission to look at"):
        store(recording, bucket, if_exists="skip")


def test_unknown_commit_outcome_is_reported_as_unknown(record, bucket, proxy):
    proxy.always("ListParts", ACCESS_DENIED)
    proxy.once("CompleteMultipartUpload", LOSE_RESPONSE)
    recording = record("long")
    with pytest.raises(AudioTransferError, match="It is either unchanged or complete"):
        store(recording, bucket)
    assert bucket.read() == recording.read()
    assert bucket.list_leftovers() == []


def test_without_list_parts_permission_log_confirms_nothing(record, bucket, proxy, capfd):
    proxy.always("ListParts", ACCESS_DENIED)
    recording = record("long")
    store(recording, bucket)
    assert bucket.read() == recording.read()
    assert bucket.list_leftovers() == []
    assert "the storage confirmed nothing" in capfd.readouterr().out


def test_failed_discard_is_retried(record, bucket, proxy):
    proxy.once("AbortMultipartUpload", INTERNAL_ERROR)
    with pytest.raises(AudioTransferError, match="CRC-64"):
        store(record("long", "wrong-crc:always"), bucket)
    assert bucket.read() == OLD
    assert bucket.list_leftovers() == []


def test_rejected_discard_is_logged_and_keeps_first_error(record, bucket, proxy, capfd, monkeypatch):
    def wait_for_upload(*_):
        give_up_at = time.monotonic() + 60
        while not bucket.list_leftovers() and time.monotonic() < give_up_at:
            time.sleep(0.01)

    # Before the second download, which ends the transfer: otherwise there may be no upload to discard yet.
    monkeypatch.setattr("airflow_provider_mps.storage.deadline.Deadline.sleep", wait_for_upload)
    proxy.always("AbortMultipartUpload", ACCESS_DENIED)
    with pytest.raises(AudioTransferError, match="redirects to a URL with the scheme 'file'"):
        store(record("long", "truncate, redirect-to-file"), bucket)
    assert bucket.read() == OLD
    assert bucket.list_leftovers() == ["unfinished upload of clip.wav"]
    assert f"The uncommitted upload to {bucket.uri} could not be discarded" in capfd.readouterr().out


def test_upload_with_lost_id_remains_unfinished(record, bucket, proxy):
    # Without the id, only the bucket's lifecycle rules can abort the upload.
    proxy.once("CreateMultipartUpload", LOSE_RESPONSE)
    recording = record("long")
    store(recording, bucket)
    assert bucket.read() == recording.read()
    assert bucket.list_leftovers() == ["unfinished upload of clip.wav"]


@pytest.mark.parametrize(
    ("operation", "times"),
    [("CompleteMultipartUpload", "once"), ("CompleteMultipartUpload", "always"), ("PutObject", "always")],
)
def test_lost_commit_response_never_claims_unchanged(record, bucket, proxy, operation, times):
    getattr(proxy, times)(operation, LOSE_RESPONSE)
    recording = record("short" if operation == "PutObject" else "long")
    message = ""
    try:
        store(recording, bucket)
    except AudioTransferError as error:
        message = str(error)
    assert "unchanged" not in message
    assert bucket.read() == recording.read()
    assert bucket.list_leftovers() == []


def test_completed_upload_with_earlier_date_is_recognized(record, bucket, proxy):
    # rclone, like S3, dates the object before its completion; here its ETag also differs from that of the parts.
    proxy.once("ListParts", lambda: time.sleep(2.5))
    proxy.always("CompleteMultipartUpload", LOSE_RESPONSE)
    recording = record("long")
    store(recording, bucket)
    assert bucket.read() == recording.read()
