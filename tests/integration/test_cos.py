"""cos:// on a real S3 server, and what is sent to COS itself, recorded."""

import json
import os
import pickle
import re
import uuid

import fsspec
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.emulator.server import RunningEmulator
from airflow_provider_mps.errors import InvalidMpsConnectionError, InvalidRequestError
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator, TextToSpeechToObjectStorageOperator
from airflow_provider_mps.uncommitted import open_uncommitted
from tests.scripted_server import Reply, ScriptedServer

LONG = os.urandom(20 * 1024 * 1024)
BUCKET = "clips-1250000000"


@pytest.fixture
def connect_to(monkeypatch):
    """Make a connection of another id each time, for Airflow keeps a filesystem per id."""

    def connect(extra, login="the-id", password="the-secret-key"):
        conn_id = f"mps_{uuid.uuid4().hex[:8]}"
        connection = {"conn_type": "tencent_mps", "login": login, "password": password, "extra": extra}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))
        return conn_id

    return connect


@pytest.fixture
def cos(s3, connect_to):
    """A root on rclone, by the connection's ``cos_endpoint``."""
    s3.make_bucket(BUCKET)
    conn_id = connect_to({"cos_endpoint": s3.url, "region": "ap-singapore"}, s3.key, s3.secret)
    return f"cos://{conn_id}@{BUCKET}"


class TestOnARealServer:
    @pytest.mark.parametrize("audio", [b"short", LONG], ids=["one request", "several parts"])
    def test_what_is_written_is_read_back(self, cos, audio):
        path = ObjectStoragePath(f"{cos}/folder/a.wav")
        with path.open("wb") as file:
            file.write(audio)
        assert path.read_bytes() == audio
        assert path.stat().st_size == len(audio)
        assert [str(child) for child in ObjectStoragePath(f"{cos}/folder").iterdir()] == [str(path)]
        path.unlink()
        assert not path.exists()

    def test_a_path_has_the_parts_of_any_other_object_storage(self, cos):
        path = ObjectStoragePath(f"{cos}/folder") / "a.wav"
        assert (path.name, path.bucket, path.key) == ("a.wav", BUCKET, "folder/a.wav")
        assert path.as_uri() == f"cos://{BUCKET}/folder/a.wav"
        assert str(path.parent) == f"{cos}/folder"

    def test_fsspec_alone_opens_it_with_the_connection_in_the_url(self, cos):
        with fsspec.open(f"{cos}/a.txt", "wb") as file:
            file.write(b"hello")
        with fsspec.open(f"{cos}/a.txt", "rb") as file:
            assert file.read() == b"hello"

    def test_the_operator_stores_into_it(self, cos, s3, emulator):
        task_id = TextToSpeechOperator(task_id="submit", text="hello", voice_id="v").execute({})

        class Instance:
            def xcom_push(self, key, value):
                pass

        operator = TextToSpeechToObjectStorageOperator(task_id="s", mps_task_id=task_id, destination=f"{cos}/a.wav")
        assert operator.execute({"ti": Instance()}) == f"{cos}/a.wav"
        assert s3.seen("a.wav", BUCKET)[:4] == b"RIFF"

    def test_a_discarded_upload_leaves_nothing(self, cos, s3):
        file = open_uncommitted(ObjectStoragePath(f"{cos}/a.wav"), length=len(LONG))
        file.write(bytearray(LONG[: file.block_size(0)]))
        assert s3.unfinished_uploads(BUCKET) == ["a.wav"]
        file.discard()
        assert s3.unfinished_uploads(BUCKET) == []

    def test_nothing_secret_is_kept_pickled_or_shown(self, cos):
        fs = ObjectStoragePath(f"{cos}/a.wav").fs
        kept = pickle.dumps(fs) + repr([fs, fs.storage_options, fs.to_json()]).encode()
        assert b"s3-secret" not in kept


def answer_as_cos(request):
    """Answer what an upload asks, as S3 does."""
    if request.method == "POST" and request.target.endswith("?uploads"):
        return Reply(b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>")
    if request.method == "GET":
        size = sum(len(one.body) for one in ANSWERED if "partNumber" in one.target)
        part = f"<Part><PartNumber>1</PartNumber><Size>{size}</Size></Part>"
        return Reply(f"<ListPartsResult><IsTruncated>false</IsTruncated>{part}</ListPartsResult>".encode())
    if request.method == "POST":
        return Reply(b'<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>')
    ANSWERED.append(request)
    return Reply(b"", 200, {"ETag": '"e"', "x-cos-hash-crc64ecma": "5"})


ANSWERED = []


@pytest.fixture
def recorder():
    ANSWERED.clear()
    with ScriptedServer(answer_as_cos) as server:
        yield server


def write(conn_id, content):
    file = open_uncommitted(ObjectStoragePath(f"cos://{conn_id}@{BUCKET}/a b.wav"), content_type="audio/wav")
    for first in range(0, len(content), file.block_size(0)):
        file.write(bytearray(content[first : first + file.block_size(0)]))
    return file.commit()


ENDPOINT = "http://cos.ap-singapore.myqcloud.com"


@pytest.mark.parametrize("content", [b"short", LONG], ids=["one request", "several parts"])
def test_every_request_names_the_bucket_in_its_host_is_signed_and_has_a_length(recorder, connect_to, content):
    write(connect_to({"cos_endpoint": ENDPOINT, "proxy": recorder.url, "token": "the-token"}), content)
    for request in recorder.requests:
        assert request.headers["host"] == f"{BUCKET}.cos.ap-singapore.myqcloud.com"
        assert request.target.startswith(f"http://{BUCKET}.cos.ap-singapore.myqcloud.com/a%20b.wav")
        assert request.headers["x-amz-security-token"] == "the-token"
        assert re.search(r"Credential=the-id/\d{8}/ap-singapore/s3/aws4_request", request.headers["authorization"])
        assert request.headers["authorization"].endswith(f"Signature={signature_of(request)}")
        if request.method == "PUT":
            assert int(request.headers["content-length"]) == len(request.body) > 0
        unwanted = [name for name in request.headers if "checksum" in name or name in {"x-amz-trailer", "expect"}]
        assert set(unwanted) <= {"expect"}
        assert "aws-chunked" not in request.headers.get("content-encoding", "")


def signature_of(request):
    """Sign what was received anew, by botocore's own rules."""
    headers = request.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    again = AWSRequest(request.method, request.target, {name: request.headers[name] for name in headers}, request.body)
    again.context["timestamp"] = request.headers["x-amz-date"]
    signer = S3SigV4Auth(Credentials("the-id", "the-secret-key"), "s3", "ap-singapore")
    signer.payload = lambda _: request.headers["x-amz-content-sha256"]
    return signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)


def test_the_content_type_goes_with_the_first_request(recorder, connect_to):
    for content in (b"short", LONG):
        write(connect_to({"cos_endpoint": ENDPOINT, "proxy": recorder.url}), content)
    first = [recorder.requests[0], next(request for request in recorder.requests if request.method == "POST")]
    assert [request.headers["content-type"] for request in first] == ["audio/wav", "audio/wav"]


def test_the_crc_that_cos_answers_with_is_what_the_store_tells(recorder, connect_to):
    assert write(connect_to({"cos_endpoint": ENDPOINT, "proxy": recorder.url}), b"short").crc64 == 5


def test_a_role_is_assumed_and_signs_with_its_temporary_keys(recorder, connect_to):
    with RunningEmulator(Options(secret_id="base-id", secret_key="base-key")) as emulator:
        # The proxy of the connection is on the way to STS, too; so the role's keys are asked for without one.
        conn_id = connect_to(
            {"cos_endpoint": recorder.url, "region": "ap-singapore", "role_arn": "qcs::cam::uin/1:roleName/a"},
            "base-id",
            "base-key",
        )
        stored = json.loads(os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"])
        stored.update(host=emulator.host, port=emulator.port, schema="http")
        os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps(stored)
        write(conn_id, b"short")
    (request,) = recorder.requests
    assert "Credential=AKIDtmp" in request.headers["authorization"]
    assert request.headers["x-amz-security-token"]


@pytest.mark.parametrize("bucket", ["clips", "clips-abc", "Clips-1250000000"])
@pytest.mark.parametrize("use", [ObjectStoragePath.read_bytes, ObjectStoragePath.exists, open_uncommitted])
def test_a_bucket_without_its_appid_is_refused_before_any_request(recorder, connect_to, bucket, use):
    conn_id = connect_to({"cos_endpoint": ENDPOINT, "proxy": recorder.url})
    with pytest.raises(InvalidRequestError, match="APPID"):
        use(ObjectStoragePath(f"cos://{conn_id}@{bucket}/a.wav"))
    assert recorder.requests == []


def test_a_missing_region_is_an_error_that_says_what_to_set(connect_to):
    with pytest.raises(InvalidMpsConnectionError, match="has no Region"):
        ObjectStoragePath(f"cos://{connect_to({})}@{BUCKET}/a.wav").fs.ls("")


def test_a_missing_connection_is_an_error_that_names_it():
    with pytest.raises(InvalidMpsConnectionError, match="nobodys_conn"):
        ObjectStoragePath(f"cos://nobodys_conn@{BUCKET}/a.wav").fs.ls("")
