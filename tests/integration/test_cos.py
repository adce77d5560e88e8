"""cos:// on a real S3 server, and what is sent to COS itself, recorded."""

import base64
import hashlib
import json
import os
import pickle
import re
import time
import uuid

import fsspec
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath, redact
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from fastcrc import crc64
from s3fs import S3FileSystem

from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.emulator.server import RunningEmulator
from airflow_provider_mps.errors import InvalidMpsConnectionError, InvalidRequestError
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator, TextToSpeechToObjectStorageOperator
from airflow_provider_mps.transfer.download import Source
from airflow_provider_mps.transfer.existing import ExistingFile
from airflow_provider_mps.transfer.uncommitted import open_uncommitted
from tests.scripted_server import Reply, ScriptedServer

LONG = os.urandom(20 * 1024 * 1024)
BUCKET = "clips-1250000000"


@pytest.fixture
def connect_to(monkeypatch):
    """Make a connection of another id each time, for Airflow keeps a filesystem per id."""

    def connect(extra, login="the-id", password="the-secret-key", **fields):
        conn_id = f"mps_{uuid.uuid4().hex[:8]}"
        connection = {"conn_type": "tencent_mps", "login": login, "password": password, "extra": extra, **fields}
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

    @pytest.mark.parametrize(("kept", "asked"), [(True, ["head_object"]), (False, ["head_object", "get_object"])])
    def test_crc64_of_an_existing_object_comes_from_its_head_where_cos_keeps_it(
        self, cos, s3, monkeypatch, kept, asked
    ):
        call, calls = S3FileSystem._call_s3, []

        async def answer_as_cos_does(fs, method, *args, **kwargs):
            calls.append(method)
            answer = await call(fs, method, *args, **kwargs)
            if kept:
                answer["ResponseMetadata"]["HTTPHeaders"]["x-cos-hash-crc64ecma"] = str(crc64.xz(b"audio"))
            return answer

        (s3.folder / BUCKET / "a.wav").write_bytes(b"audio")
        monkeypatch.setattr(S3FileSystem, "_call_s3", answer_as_cos_does)
        existing = ExistingFile(ObjectStoragePath(f"{cos}/a.wav"), 5, "task-1", lambda: None)
        assert existing.is_audio_of(Source(length=5, crc64=crc64.xz(b"audio")))
        assert calls == asked

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

    def test_fsspec_makes_it_of_a_connection_id_and_of_the_default_one(self, cos, connect, s3):
        connect(os.environ[f"AIRFLOW_CONN_{conn_id_in(cos).upper()}"])
        fsspec.filesystem("cos").clear_instance_cache()
        for fs in (fsspec.filesystem("cos", conn_id=conn_id_in(cos)), fsspec.filesystem("cos")):
            fs.pipe_file(f"{BUCKET}/a.txt", b"hello")
            assert pickle.loads(pickle.dumps(fs)).cat_file(f"{BUCKET}/a.txt") == b"hello"

    def test_a_connection_is_looked_up_at_the_first_request_and_not_where_a_dag_is_parsed(self, cos, monkeypatch):
        variable = f"AIRFLOW_CONN_{conn_id_in(cos).upper()}"
        connection = os.environ[variable]
        monkeypatch.delenv(variable)
        path = ObjectStoragePath(f"{cos}/a.txt")
        monkeypatch.setenv(variable, connection)
        path.write_bytes(b"hello")
        assert path.read_bytes() == b"hello"

    def test_what_a_worker_has_set_up_for_aws_is_not_meant_for_cos(self, cos, monkeypatch, tmp_path):
        (tmp_path / "config").write_text("[profile other]\ns3 =\n  use_accelerate_endpoint = true\n")
        for name, value in {
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
            "AWS_PROFILE": "nobody",
            "AWS_ACCESS_KEY_ID": "aws-id",
            "AWS_SECRET_ACCESS_KEY": "aws-key",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        }.items():
            monkeypatch.setenv(name, value)
        path = ObjectStoragePath(f"{cos}/a.txt")
        path.write_bytes(b"hello")
        assert path.read_bytes() == b"hello"


def conn_id_in(root):
    return root.removeprefix("cos://").partition("@")[0]


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
        assert [name for name in request.headers if "checksum" in name or name in {"x-amz-trailer", "expect"}] == []
        assert "aws-chunked" not in request.headers.get("content-encoding", "")


def signature_of(request):
    """Sign what was received anew, by botocore's own rules."""
    headers = request.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    again = AWSRequest(request.method, request.target, {name: request.headers[name] for name in headers}, request.body)
    again.context["timestamp"] = request.headers["x-amz-date"]
    signer = S3SigV4Auth(Credentials("the-id", "the-secret-key"), "s3", "ap-singapore")
    signer.payload = lambda _: request.headers["x-amz-content-sha256"]
    return signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)


def test_a_deletion_has_the_md5_that_cos_requires_instead_of_a_checksum_that_it_does_not_know(recorder, connect_to):
    conn_id = connect_to({"cos_endpoint": ENDPOINT, "proxy": recorder.url})
    recorder.script[:] = [Reply(b"<DeleteResult></DeleteResult>")]
    ObjectStoragePath(f"cos://{conn_id}@{BUCKET}/a.wav").fs.rm(f"{BUCKET}/a.wav")
    (request,) = recorder.requests
    assert request.target.endswith("?delete")
    assert base64.b64decode(request.headers["content-md5"]) == hashlib.md5(request.body).digest()
    assert request.headers["authorization"].endswith(f"Signature={signature_of(request)}")
    assert [name for name in request.headers if "checksum" in name] == []


def test_the_content_type_goes_with_the_first_request(recorder, connect_to):
    for content in (b"short", LONG):
        write(connect_to({"cos_endpoint": ENDPOINT, "proxy": recorder.url}), content)
    first = [recorder.requests[0], next(request for request in recorder.requests if request.method == "POST")]
    assert [request.headers["content-type"] for request in first] == ["audio/wav", "audio/wav"]


def test_the_crc_that_cos_answers_with_is_what_the_store_tells(recorder, connect_to):
    assert write(connect_to({"cos_endpoint": ENDPOINT, "proxy": recorder.url}), b"short").crc64 == 5


def with_role(connect_to, recorder, emulator):
    """Connect with a role that the emulator lets be assumed; without a proxy, which would be on the way to STS, too."""
    extra = {"cos_endpoint": recorder.url, "region": "ap-singapore", "role_arn": "qcs::cam::uin/1:roleName/a"}
    return connect_to(extra, "base-id", "base-key", host=emulator.host, port=emulator.port, schema="http")


def test_a_role_is_assumed_and_signs_with_its_temporary_keys(recorder, connect_to):
    with RunningEmulator(Options(secret_id="base-id", secret_key="base-key")) as emulator:
        conn_id = with_role(connect_to, recorder, emulator)
        write(conn_id, b"short")
    (request,) = recorder.requests
    assert "Credential=AKIDtmp" in request.headers["authorization"]
    assert request.headers["x-amz-security-token"]
    assert redact(request.headers["x-amz-security-token"]) == "***"  # botocore logs it at DEBUG


def test_temporary_keys_are_renewed_while_one_filesystem_is_used(recorder, connect_to, monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.credentials.LOOK_AGAIN", 0.0)
    # Keys are due as soon as they are there; then they are kept for a second.
    monkeypatch.setattr("airflow_provider_mps.credentials.RENEW_BEFORE", 7200)
    with RunningEmulator(Options(secret_id="base-id", secret_key="base-key")) as emulator:
        conn_id = with_role(connect_to, recorder, emulator)
        write(conn_id, b"first")
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + 2)
        write(conn_id, b"second")
    first, second = (request.headers["x-amz-security-token"] for request in recorder.requests)
    assert first != second


def test_a_role_that_may_not_be_assumed_is_an_error_that_names_the_connection(recorder, connect_to):
    with RunningEmulator(Options(secret_id="base-id", secret_key="base-key")) as emulator:
        extra = {"cos_endpoint": recorder.url, "region": "ap-singapore", "role_arn": "qcs::cam::uin/1:roleName/a"}
        where = {"host": emulator.host, "port": emulator.port, "schema": "http"}
        conn_id = connect_to(extra, "base-id", "wrong-key", **where)
        with pytest.raises(InvalidMpsConnectionError, match=rf"Assuming the role .*'{conn_id}'"):
            ObjectStoragePath(f"cos://{conn_id}@{BUCKET}/a.wav").write_bytes(b"audio")
    assert recorder.requests == []


@pytest.mark.parametrize("bucket", ["clips", "clips-abc", "Clips-1250000000"])
@pytest.mark.parametrize("use", [ObjectStoragePath.read_bytes, ObjectStoragePath.exists, open_uncommitted])
def test_a_bucket_without_its_appid_is_refused_before_any_request(recorder, connect_to, bucket, use):
    conn_id = connect_to({"cos_endpoint": ENDPOINT, "proxy": recorder.url})
    with pytest.raises(InvalidRequestError, match="APPID"):
        use(ObjectStoragePath(f"cos://{conn_id}@{bucket}/a.wav"))
    assert recorder.requests == []


USES = [
    ObjectStoragePath.read_bytes,
    ObjectStoragePath.exists,
    ObjectStoragePath.unlink,
    lambda path: list(path.iterdir()),
    lambda path: path.write_bytes(b"audio"),
    lambda path: open_uncommitted(path).commit(),
]


@pytest.fixture
def default_connection_elsewhere(recorder, connect):
    """A mps_default that works, which must not take the place of one that does not."""
    extra = {"cos_endpoint": ENDPOINT, "proxy": recorder.url}
    connect(json.dumps({"conn_type": "tencent_mps", "login": "default-id", "password": "key", "extra": extra}))
    yield
    assert recorder.requests == []


@pytest.mark.parametrize("use", USES)
@pytest.mark.usefixtures("default_connection_elsewhere")
def test_a_missing_region_is_an_error_that_says_what_to_set(connect_to, use):
    with pytest.raises(InvalidMpsConnectionError, match="has no Region"):
        use(ObjectStoragePath(f"cos://{connect_to({})}@{BUCKET}/a.wav"))


@pytest.mark.parametrize("use", USES)
@pytest.mark.usefixtures("default_connection_elsewhere")
def test_a_missing_connection_is_an_error_that_names_it(use):
    with pytest.raises(InvalidMpsConnectionError, match="nobodys_conn"):
        use(ObjectStoragePath(f"cos://nobodys_conn@{BUCKET}/a.wav"))
