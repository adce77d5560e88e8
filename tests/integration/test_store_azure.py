"""Storing through adlfs to a server with Azure's Blob API that records requests."""

import base64
import hashlib
import logging

import adlfs
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.exceptions import AudioTransferError, DestinationError
from airflow_provider_mps.storage.if_exists import IfExists
from airflow_provider_mps.storage.transfer import store_audio
from tests.scripted_server import RESET, Reply, ScriptedServer, make_audio_reply

AUDIO = b"RIFF audio" * 1000
OLD = b"older and good"


def send_audio(request):
    return make_audio_reply(AUDIO, request)


class Container:
    """A container with one blob."""

    def __init__(self):
        self.blob = None
        self.denied_method = None
        self.metadata = {}
        self.before_put = lambda: None
        self.lost_responses = []
        """Whether the response to the next PUT is lost, and so on from the end."""

    def __call__(self, request):
        if request.method == self.denied_method:
            return Reply(status=403, headers={"x-ms-error-code": "AuthorizationPermissionMismatch"})
        if request.method == "PUT":
            return self._put(request)
        if request.method == "HEAD" and "/clips/a.wav" in request.target and self.blob is not None:
            return Reply(headers=self._headers(len(self.blob)))
        return Reply(status=404, headers={"x-ms-error-code": "BlobNotFound"})

    def _put(self, request):
        self.before_put()
        if request.headers.get("if-none-match") == "*" and self.blob is not None:
            return Reply(status=409, headers={"x-ms-error-code": "BlobAlreadyExists"})
        self.blob = request.body
        self.metadata = {name: value for name, value in request.headers.items() if name.startswith("x-ms-meta-")}
        if self.lost_responses and self.lost_responses.pop():
            return RESET
        return Reply(status=201, headers=self._headers(0))

    def _headers(self, length):
        return {
            "Content-Length": str(length),
            "Last-Modified": "Wed, 25 Nov 2026 00:00:00 GMT",
            "ETag": '"0x1"',
            "x-ms-blob-type": "BlockBlob",
            **self.metadata,
        }


@pytest.fixture
def azure():
    container = Container()
    with ScriptedServer(container) as server:
        server.container = container
        yield server


@pytest.fixture
def store(azure, monkeypatch):
    key = base64.b64encode(b"some key").decode()
    endpoint = f"{azure.url}/account"
    fs = adlfs.AzureBlobFileSystem(
        account_name="account",
        connection_string=f"DefaultEndpointsProtocol=http;AccountName=account;AccountKey={key};BlobEndpoint={endpoint}",
        skip_instance_cache=True,
    )
    # Airflow's connection to it needs the Azure provider.
    monkeypatch.setattr("airflow_provider_mps.storage.writers.get_filesystem", lambda _: fs)
    monkeypatch.setattr("airflow_provider_mps.storage.transfer.get_filesystem", lambda *_: fs)
    monkeypatch.setattr("airflow_provider_mps.storage.destination.get_filesystem", lambda *_: fs)

    def store(source, **options):
        path = ObjectStoragePath("abfs://clips/a.wav")
        store_audio(
            source.url, path, get_fresh_url=lambda: source.url, subject="task 1", log=logging.getLogger(), **options
        )

    return store


def test_azure_upload_is_one_put_with_content_type_and_md5(azure, store):
    azure.container.blob = OLD
    with ScriptedServer(send_audio) as source:
        store(source)
    assert azure.container.blob == AUDIO
    (put,) = (request for request in azure.requests if request.method == "PUT")
    assert put.target.partition("?")[0] == "/account/clips/a.wav"
    assert put.headers["x-ms-blob-content-type"] == "audio/wav"
    assert base64.b64decode(put.headers["x-ms-blob-content-md5"]) == hashlib.md5(AUDIO).digest()


@pytest.mark.usefixtures("no_waiting")
def test_incomplete_audio_is_not_uploaded_to_azure(azure, store):
    azure.container.blob = OLD
    cut = lambda request: make_audio_reply(AUDIO, request, cut_at=5)  # noqa: E731
    with ScriptedServer(cut) as source, pytest.raises(AudioTransferError, match="task 1"):
        store(source)
    assert azure.container.blob == OLD
    assert azure.requests == []


def test_azure_put_without_permission_keeps_older_blob(azure, store):
    azure.container.blob, azure.container.denied_method = OLD, "PUT"
    message = r"(?s)no permission to write abfs://clips/a.wav.*PermissionMismatch"
    with ScriptedServer(send_audio) as source, pytest.raises(DestinationError, match=message):
        store(source)
    assert azure.container.blob == OLD


def test_azure_upload_without_read_permission_succeeds(azure, store):
    azure.container.denied_method = "HEAD"
    with ScriptedServer(send_audio) as source:
        store(source)
    assert azure.container.blob == AUDIO


def puts(azure):
    return [request for request in azure.requests if request.method == "PUT"]


def test_azure_if_exists_fail_sends_create_condition(azure, store):
    with ScriptedServer(send_audio) as source:
        store(source, if_exists=IfExists.FAIL)
    assert azure.container.blob == AUDIO
    (put,) = puts(azure)
    assert put.headers["if-none-match"] == "*"
    assert put.headers["x-ms-blob-content-type"] == "audio/wav"
    assert base64.b64decode(put.headers["x-ms-blob-content-md5"]) == hashlib.md5(AUDIO).digest()


@pytest.mark.parametrize("content", [OLD, AUDIO], ids=["other content", "same content"])
def test_azure_blob_created_after_check_is_kept(azure, store, content):
    azure.container.before_put = lambda: setattr(azure.container, "blob", content)
    with (
        ScriptedServer(send_audio) as source,
        pytest.raises(DestinationError, match="exists already and if_exists is 'fail'"),
    ):
        store(source, if_exists=IfExists.FAIL)
    assert azure.container.blob == content
    assert azure.container.metadata == {}


def test_azure_put_with_lost_response_is_recognized(azure, store, monkeypatch):
    monkeypatch.setattr("azure.storage.blob._shared.policies_async.AsyncStorageRetryPolicy.sleep", skip_pause)
    azure.container.lost_responses = [True]
    with ScriptedServer(send_audio) as source:
        assert store(source, if_exists=IfExists.FAIL) is None
    assert len(puts(azure)) == 2
    assert azure.container.blob == AUDIO


async def skip_pause(*_):
    """Do not wait between retries."""


def test_missing_azure_container_raises_destination_error(azure, store):
    azure.script[:] = [lambda request: Reply(status=404, headers={"x-ms-error-code": "ContainerNotFound"})]
    with ScriptedServer(send_audio) as source, pytest.raises(DestinationError, match="bucket or folder does not exist"):
        store(source, if_exists=IfExists.FAIL)
