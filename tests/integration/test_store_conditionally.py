"""``if_exists="fail"`` on a server that enforces conditional writes, and on servers that do not."""

import logging
import os
import threading

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.exceptions import AudioTransferError, DestinationError
from airflow_provider_mps.storage.if_exists import IfExists
from airflow_provider_mps.storage.transfer import store_audio
from tests.conditional_s3 import ConditionalS3, Conditions
from tests.faulty_s3 import LOSE_RESPONSE, ErrorResponse, FaultyS3
from tests.scripted_server import ScriptedServer, make_audio_reply

SHORT = b"RIFF short audio"
LONG = os.urandom(9 * 1024 * 1024)
"""Two parts."""
OTHER = b"from another writer"
COMMIT = {SHORT: ("PUT", ""), LONG: ("POST", "uploadId")}
OPERATION = {SHORT: "PutObject", LONG: "CompleteMultipartUpload"}

for_each_length = pytest.mark.parametrize("audio", [SHORT, LONG], ids=["one request", "two parts"])


class Bucket:
    """A bucket behind a proxy with faults, and a connection to it."""

    def __init__(self, s3, faults, root):
        self.s3 = s3
        self.faults = faults
        self.path = ObjectStoragePath(f"{root}clip.wav")

    def store(self, audio, if_exists=IfExists.FAIL):
        with ScriptedServer(lambda request: make_audio_reply(audio, request)) as source:
            url = f"{source.url}/clip.wav"
            return store_audio(
                url,
                self.path,
                get_fresh_url=lambda: url,
                subject="task 1",
                log=logging.getLogger(),
                if_exists=if_exists,
            )

    def write_before_commit(self, audio, content=OTHER):
        """Let another writer create the object when the commit request arrives."""
        method, word = COMMIT[audio]

        def write(received, key):
            if received == method and word in self.s3.requests[-1].target and key not in self.s3.objects:
                self.s3.put(key, content)

        self.s3.before = write


@pytest.fixture
def open_bucket(monkeypatch):
    opened = []

    def start(conditions):
        s3 = ConditionalS3(conditions).__enter__()
        opened.append(s3)
        faults = FaultyS3(s3.port).__enter__()
        opened.append(faults)
        conn_id, connection, root = s3.connection(faults.url)
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", connection)
        return Bucket(s3, faults, root)

    yield start
    for server in reversed(opened):
        server.__exit__()


@pytest.fixture(params=[Conditions.S3, Conditions.COS], ids=lambda conditions: conditions.value)
def bucket(request, open_bucket):
    """Return a bucket with conditional creation."""
    return open_bucket(request.param)


CONDITION = {Conditions.S3: "if-none-match: *", Conditions.COS: "x-cos-forbid-overwrite: true"}


@for_each_length
def test_if_exists_fail_sends_create_condition(bucket, audio):
    bucket.store(audio)
    assert bucket.s3.seen("clip.wav") == audio
    assert bucket.s3.conditions_of(*COMMIT[audio]) == [CONDITION[bucket.s3.conditions]]
    begin = CONDITION[Conditions.COS] if bucket.s3.conditions is Conditions.COS else None
    assert bucket.s3.conditions_of("POST", "uploads") == ([begin] if audio is LONG else [])
    bucket.store(audio, IfExists.OVERWRITE)
    assert bucket.s3.conditions_of(*COMMIT[audio])[1:] == [None]


@pytest.mark.parametrize("content", [OTHER, "same audio"])
@for_each_length
def test_object_created_after_check_is_kept(bucket, audio, content):
    other_audio = audio if content == "same audio" else content
    bucket.write_before_commit(audio, other_audio)
    with pytest.raises(DestinationError, match=r"task 1 was not stored: .*exists already and if_exists is 'fail'"):
        bucket.store(audio)
    assert bucket.s3.seen("clip.wav") == other_audio
    assert bucket.s3.objects["clip.wav"].headers == {}
    assert bucket.s3.uploads == {}


@for_each_length
def test_one_of_two_concurrent_creations_fails(bucket, audio):
    both_commit = threading.Barrier(2, timeout=60)
    method, word = COMMIT[audio]

    def wait(received, _):
        if received == method and word in bucket.s3.requests[-1].target and not both_commit.broken:
            both_commit.wait()

    bucket.s3.before = wait
    outcomes = []

    def store():
        try:
            outcomes.append(bucket.store(audio))
        except DestinationError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=store) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(isinstance(outcome, DestinationError) for outcome in outcomes) == 1
    assert len(outcomes) == 2
    assert bucket.s3.seen("clip.wav") == audio
    assert bucket.s3.uploads == {}


@for_each_length
def test_commit_with_lost_response_is_recognized(bucket, audio):
    bucket.faults.once(OPERATION[audio], LOSE_RESPONSE)
    assert bucket.store(audio).size == len(audio)
    assert len(bucket.s3.conditions_of(*COMMIT[audio])) == 2
    assert bucket.s3.seen("clip.wav") == audio


@for_each_length
def test_conflict_with_concurrent_write_is_retried(open_bucket, audio):
    bucket = open_bucket(Conditions.S3)
    bucket.faults.once(OPERATION[audio], ErrorResponse(409, "ConditionalRequestConflict"))
    bucket.store(audio)
    assert bucket.s3.seen("clip.wav") == audio
    assert bucket.faults.operations.count(OPERATION[audio]) == 2


def test_persistent_conflict_is_retryable_by_airflow(open_bucket, monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.storage.writers.s3._CONFLICT_PAUSES_SECONDS", (0.01, 0.01))
    bucket = open_bucket(Conditions.S3)
    bucket.faults.always("PutObject", ErrorResponse(409, "ConditionalRequestConflict"))
    with pytest.raises(AudioTransferError, match="ConditionalRequestConflict"):
        bucket.store(SHORT)
    assert bucket.faults.operations.count("PutObject") == 3
    assert bucket.s3.objects == {}


def test_rejection_without_object_is_retryable_by_airflow(bucket):
    code = "FileAlreadyExists" if bucket.s3.conditions is Conditions.COS else "PreconditionFailed"
    bucket.faults.always("PutObject", ErrorResponse(409 if bucket.s3.conditions is Conditions.COS else 412, code))
    with pytest.raises(AudioTransferError, match=code):
        bucket.store(SHORT)


@pytest.mark.parametrize("conditions", [Conditions.IGNORED, Conditions.NOT_IMPLEMENTED])
@for_each_length
def test_unsupported_conditions_fall_back_to_check(open_bucket, conditions, audio):
    bucket = open_bucket(conditions)
    bucket.store(audio)
    assert bucket.s3.seen("clip.wav") == audio
    with pytest.raises(DestinationError, match=rf"exists already \({len(audio)} bytes\)"):
        bucket.store(audio)
    assert bucket.s3.uploads == {}


def test_created_object_has_content_type(bucket):
    bucket.store(SHORT)
    assert bucket.s3.objects["clip.wav"].headers["Content-Type"] == "audio/wav"
