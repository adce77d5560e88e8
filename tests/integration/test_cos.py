"""cos:// on a real S3 server, and the recorded requests to COS itself."""

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
from airflow_provider_mps.exceptions import InvalidMpsConnectionError, InvalidRequestError
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator, TextToSpeechToObjectStorageOperator
from airflow_provider_mps.storage.http_response import AudioMetadata
from airflow_provider_mps.storage.if_exists import ExistingFile
from airflow_provider_mps.storage.writers import open_writer
from tests.scripted_server import Reply, ScriptedServer

LONG = os.urandom(20 * 1024 * 1024)
BUCKET = "clips-1250000000"


@pytest.fixture
def connect_to(monkeypatch):
    """Return a function that creates a connection with a new id, because Airflow caches a filesystem per id."""

    def connect(extra, login="the-id", password="the-secret-key", **fields):
        conn_id = f"mps_{uuid.uuid4().hex[:8]}"
        connection = {"conn_type": "tencent_mps", "login": login, "password": password, "extra": extra, **fields}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))
        return conn_id

    return connect


@pytest.fixture
def cos(s3, connect_to):
    """Return a bucket on rclone, through the connection's ``cos_endpoint``."""
    s3.make_bucket(BUCKET)
    conn_id = connect_to({"cos_endpoint": s3.url, "region": "ap-singapore"}, s3.key, s3.secret)
    return f"cos://{conn_id}@{BUCKET}"


class TestOnARealServer:
    @pytest.mark.parametrize("audio", [b"short", LONG], ids=["one request", "several parts"])
    def test_written_object_is_read_back(self, cos, audio):
        path = ObjectStoragePath(f"{cos}/folder/a.wav")
        with path.open("wb") as file:
            file.write(audio)
        assert path.read_bytes() == audio
        assert path.stat().st_size == len(audio)
        assert [str(child) for child in ObjectStoragePath(f"{cos}/folder").iterdir()] == [str(path)]
        path.unlink()
        assert not path.exists()

    def test_path_has_name_bucket_key_and_parent(self, cos):
        path = ObjectStoragePath(f"{cos}/folder") / "a.wav"
        assert (path.name, path.bucket, path.key) == ("a.wav", BUCKET, "folder/a.wav")
        assert path.as_uri() == f"cos://{BUCKET}/folder/a.wav"
        assert str(path.parent) == f"{cos}/folder"

    def test_fsspec_open_uses_connection_in_url(self, cos):
        with fsspec.open(f"{cos}/a.txt", "wb") as file:
            file.write(b"hello")
        with fsspec.open(f"{cos}/a.txt", "rb") as file:
            assert file.read() == b"hello"

    def test_operator_stores_to_cos(self, cos, s3, emulator):
        task_id = TextToSpeechOperator(task_id="submit", text="hello", voice_id="v").execute({})

        class Instance:
            def xcom_push(self, key, value):
                pass

        operator = TextToSpeechToObjectStorageOperator(task_id="s", mps_task_id=task_id, destination=f"{cos}/a.wav")
        assert operator.execute({"ti": Instance()}) == f"{cos}/a.wav"
        assert s3.seen("a.wav", BUCKET)[:4] == b"RIFF"

    @pytest.mark.parametrize(
        ("has_crc64", "methods"), [(True, ["head_object"]), (False, ["head_object", "get_object"])]
    )
    def test_existing_object_crc64_is_read_from_head_if_given(self, cos, s3, monkeypatch, has_crc64, methods):
        call, calls = S3FileSystem._call_s3, []

        async def respond_with_crc64(fs, method, *args, **kwargs):
            calls.append(method)
            response = await call(fs, method, *args, **kwargs)
            if has_crc64:
                response["ResponseMetadata"]["HTTPHeaders"]["x-cos-hash-crc64ecma"] = str(crc64.xz(b"audio"))
            return response

        (s3.folder / BUCKET / "a.wav").write_bytes(b"audio")
        monkeypatch.setattr(S3FileSystem, "_call_s3", respond_with_crc64)
        existing = ExistingFile(ObjectStoragePath(f"{cos}/a.wav"), 5, "task-1", lambda: None)
        assert existing.is_audio_of(AudioMetadata(length=5, crc64=crc64.xz(b"audio")))
        assert calls == methods

    def test_discarded_upload_leaves_no_parts(self, cos, s3):
        file = open_writer(ObjectStoragePath(f"{cos}/a.wav"), length=len(LONG))
        file.write(bytearray(LONG[: file.get_block_size(0)]))
        assert s3.unfinished_uploads(BUCKET) == ["a.wav"]
        file.discard()
        assert s3.unfinished_uploads(BUCKET) == []

    def test_filesystem_repr_and_pickle_hide_secrets(self, cos):
        fs = ObjectStoragePath(f"{cos}/a.wav").fs
        output = pickle.dumps(fs) + repr([fs, fs.storage_options, fs.to_json()]).encode()
        assert b"s3-secret" not in output

    def test_fsspec_filesystem_uses_given_or_default_connection(self, cos, connect, s3):
        connect(os.environ[f"AIRFLOW_CONN_{get_conn_id(cos).upper()}"])
        fsspec.filesystem("cos").clear_instance_cache()
        for fs in (fsspec.filesystem("cos", conn_id=get_conn_id(cos)), fsspec.filesystem("cos")):
            fs.pipe_file(f"{BUCKET}/a.txt", b"hello")
            assert pickle.loads(pickle.dumps(fs)).cat_file(f"{BUCKET}/a.txt") == b"hello"

    def test_connection_is_looked_up_at_first_request(self, cos, monkeypatch):
        variable = f"AIRFLOW_CONN_{get_conn_id(cos).upper()}"
        connection = os.environ[variable]
        monkeypatch.delenv(variable)
        path = ObjectStoragePath(f"{cos}/a.txt")
        monkeypatch.setenv(variable, connection)
        path.write_bytes(b"hello")
        assert path.read_bytes() == b"hello"

    def test_filesystem_ignores_aws_settings_of_worker(self, cos, monkeypatch, tmp_path):
        (tmp_path / "config").write_text("[profile other]\ns3 =\n  use_accelerate_endpoint = true\n")
        for name, value in {
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
            "AWS_PROFILE": "missing",
            "AWS_ACCESS_KEY_ID": "aws-id",
            "AWS_SECRET_ACCESS_KEY": "aws-key",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        }.items():
            monkeypatch.setenv(name, value)
        path = ObjectStoragePath(f"{cos}/a.txt")
        path.write_bytes(b"hello")
        assert path.read_bytes() == b"hello"


def get_conn_id(root):
    return root.removeprefix("cos://").partition("@")[0]


def respond_as_cos(request):
    """Respond to the requests of an upload, as S3 does."""
    if request.method == "POST" and request.target.endswith("?uploads"):
        return Reply(b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>")
    if request.method == "GET":
        size = sum(len(one.body) for one in UPLOADED if "partNumber" in one.target)
        part = f"<Part><PartNumber>1</PartNumber><Size>{size}</Size></Part>"
        return Reply(f"<ListPartsResult><IsTruncated>false</IsTruncated>{part}</ListPartsResult>".encode())
    if request.method == "POST":
        return Reply(b'<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>')
    UPLOADED.append(request)
    return Reply(b"", 200, {"ETag": '"e"', "x-cos-hash-crc64ecma": "5"})


UPLOADED = []


@pytest.fixture
def recorder():
    UPLOADED.clear()
    with ScriptedServer(respond_as_cos) as server:
        yield server


def write(conn_id, content):
    file = open_writer(ObjectStoragePath(f"cos://{conn_id}@{BUCKET}/a b.wav"), content_type="audio/wav")
    for first in range(0, len(content), file.get_block_size(0)):
        file.write(bytearray(content[first : first + file.get_block_size(0)]))
    return file.commit()


ENDPOINT = "http://cos.ap-singapore.myqcloud.com"


@pytest.mark.parametrize("content", [b"short", LONG], ids=["one request", "several parts"])
def test_requests_have_bucket_host_signature_and_length(recorder, connect_to, content):
    write(connect_to({"cos_endpoint": ENDPOINT, "proxy": recorder.url, "token": "the-token"}), content)
    for request in recorder.requests:
        assert request.headers["host"] == f"{BUCKET}.cos.ap-singapore.myqcloud.com"
        assert request.target.startswith(f"http://{BUCKET}.cos.ap-singapore.myqcloud.com/a%20b.wav")
        assert request.headers["x-amz-security-token"] == "the-token"
        assert re.search(r"Credential=the-id/\d{8}/ap-singapore/s3/aws4_request", request.headers["authorization"])
        assert request.headers["authorization"].endswith(f"Signature={sign(request)}")
        if request.method == "PUT":
            assert int(request.headers["content-length"]) == len(request.body) > 0
        assert [name for name in request.headers if "checksum" in name or name in {"x-amz-trailer", "expect"}] == []
        assert "aws-chunked" not in request.headers.get("content-encoding", "")


def sign(request):
    """Sign a received request with botocore."""
    headers = request.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    again = AWSRequest(request.method, request.target, {name: request.headers[name] for name in headers}, request.body)
    again.context["timestamp"] = request.headers["x-amz-date"]
    signer = S3SigV4Auth(Credentials("the-id", "the-secret-key"), "s3", "ap-singapore")
    signer.payload = lambda _: request.headers["x-amz-content-sha256"]
    return signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)


def test_delete_request_has_md5_and_no_other_checksum(recorder, connect_to):
    conn_id = connect_to({"cos_endpoint": ENDPOINT, "proxy": recorder.url})
    recorder.script[:] = [Reply(b"<DeleteResult></DeleteResult>")]
    ObjectStoragePath(f"cos://{conn_id}@{BUCKET}/a.wav").fs.rm(f"{BUCKET}/a.wav")
    (request,) = recorder.requests
    assert request.target.endswith("?delete")
    assert base64.b64decode(request.headers["content-md5"]) == hashlib.md5(request.body).digest()
    assert request.headers["authorization"].endswith(f"Signature={sign(request)}")
    assert [name for name in request.headers if "checksum" in name] == []


def test_first_upload_request_has_content_type(recorder, connect_to):
    for content in (b"short", LONG):
        write(connect_to({"cos_endpoint": ENDPOINT, "proxy": recorder.url}), content)
    first = [recorder.requests[0], next(request for request in recorder.requests if request.method == "POST")]
    assert [request.headers["content-type"] for request in first] == ["audio/wav", "audio/wav"]


def test_commit_returns_crc64_of_response(recorder, connect_to):
    assert write(connect_to({"cos_endpoint": ENDPOINT, "proxy": recorder.url}), b"short").crc64 == 5


def connect_with_role(connect_to, recorder, emulator):
    """Create a connection with a role of the emulator; without a proxy, which requests to STS would use, too."""
    extra = {"cos_endpoint": recorder.url, "region": "ap-singapore", "role_arn": "qcs::cam::uin/1:roleName/a"}
    return connect_to(extra, "base-id", "base-key", host=emulator.host, port=emulator.port, schema="http")


def test_role_signs_with_temporary_keys(recorder, connect_to):
    with RunningEmulator(Options(secret_id="base-id", secret_key="base-key")) as emulator:
        conn_id = connect_with_role(connect_to, recorder, emulator)
        write(conn_id, b"short")
    (request,) = recorder.requests
    assert "Credential=AKIDtmp" in request.headers["authorization"]
    assert request.headers["x-amz-security-token"]
    assert redact(request.headers["x-amz-security-token"]) == "***"  # botocore logs it at DEBUG


def test_temporary_keys_are_refreshed_between_requests(recorder, connect_to, monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.api.credentials.RECHECK_SECONDS", 0.0)
    # New keys are due for a refresh at once; then they are kept for a second.
    monkeypatch.setattr("airflow_provider_mps.api.credentials.REFRESH_BEFORE_SECONDS", 7200)
    with RunningEmulator(Options(secret_id="base-id", secret_key="base-key")) as emulator:
        conn_id = connect_with_role(connect_to, recorder, emulator)
        write(conn_id, b"first")
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + 2)
        write(conn_id, b"second")
    first, second = (request.headers["x-amz-security-token"] for request in recorder.requests)
    assert first != second


def test_role_that_cannot_be_assumed_raises_and_names_connection(recorder, connect_to):
    with RunningEmulator(Options(secret_id="base-id", secret_key="base-key")) as emulator:
        extra = {"cos_endpoint": recorder.url, "region": "ap-singapore", "role_arn": "qcs::cam::uin/1:roleName/a"}
        where = {"host": emulator.host, "port": emulator.port, "schema": "http"}
        conn_id = connect_to(extra, "base-id", "wrong-key", **where)
        with pytest.raises(InvalidMpsConnectionError, match=rf"Assuming the role .*'{conn_id}'"):
            ObjectStoragePath(f"cos://{conn_id}@{BUCKET}/a.wav").write_bytes(b"audio")
    assert recorder.requests == []


@pytest.mark.parametrize("bucket", ["clips", "clips-abc", "Clips-1250000000"])
@pytest.mark.parametrize("use", [ObjectStoragePath.read_bytes, ObjectStoragePath.exists, open_writer])
def test_bucket_without_appid_raises_before_any_request(recorder, connect_to, bucket, use):
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
    lambda path: open_writer(path).commit(),
]


@pytest.fixture
def valid_default_connection(recorder, connect):
    """Create a valid mps_default, which must not replace an invalid connection."""
    extra = {"cos_endpoint": ENDPOINT, "proxy": recorder.url}
    connect(json.dumps({"conn_type": "tencent_mps", "login": "default-id", "password": "key", "extra": extra}))
    yield
    assert recorder.requests == []


@pytest.mark.parametrize("use", USES)
@pytest.mark.usefixtures("valid_default_connection")
def test_missing_region_raises_and_names_field(connect_to, use):
    with pytest.raises(InvalidMpsConnectionError, match="has no Region"):
        use(ObjectStoragePath(f"cos://{connect_to({})}@{BUCKET}/a.wav"))


@pytest.mark.parametrize("use", USES)
@pytest.mark.usefixtures("valid_default_connection")
def test_missing_connection_raises_and_names_it(use):
    with pytest.raises(InvalidMpsConnectionError, match="missing_conn"):
        use(ObjectStoragePath(f"cos://missing_conn@{BUCKET}/a.wav"))
