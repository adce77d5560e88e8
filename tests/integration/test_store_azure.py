"""Storing through adlfs to a server that answers as Azure's Blob API does; its requests are recorded."""

import base64
import hashlib
import logging

import adlfs
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.audio import store_audio
from airflow_provider_mps.choice import IfExists
from airflow_provider_mps.errors import AudioTransferError, DestinationError
from tests.scripted_server import RESET, Reply, ScriptedServer, audio_reply

AUDIO = b"RIFF audio" * 1000
OLD = b"older and good"


def whole(request):
    return audio_reply(AUDIO, request)


class Container:
    """One blob, as far as storing needs it."""

    def __init__(self):
        self.blob = None
        self.refuses = None
        """A method."""
        self.metadata = {}
        self.before_put = lambda: None
        self.loses_answers = []
        """Whether the answer to the next PUT is lost, and so on from the end."""

    def __call__(self, request):
        if request.method == self.refuses:
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
        if self.loses_answers and self.loses_answers.pop():
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
    # Airflow's own way to it needs the whole Azure provider.
    monkeypatch.setattr("airflow_provider_mps.transfer.uncommitted.filesystem_of", lambda _: fs)
    monkeypatch.setattr("airflow_provider_mps.audio.filesystem_of", lambda *_: fs)
    monkeypatch.setattr("airflow_provider_mps.destination.filesystem_of", lambda *_: fs)

    def store(source, **options):
        path = ObjectStoragePath("abfs://clips/a.wav")
        store_audio(
            source.url, path, fresh_url=lambda: source.url, subject="task 1", log=logging.getLogger(), **options
        )

    return store


def test_an_audio_is_put_with_one_request_that_tells_its_type_and_md5(azure, store):
    azure.container.blob = OLD
    with ScriptedServer(whole) as source:
        store(source)
    assert azure.container.blob == AUDIO
    (put,) = (request for request in azure.requests if request.method == "PUT")
    assert put.target.partition("?")[0] == "/account/clips/a.wav"
    assert put.headers["x-ms-blob-content-type"] == "audio/wav"
    assert base64.b64decode(put.headers["x-ms-blob-content-md5"]) == hashlib.md5(AUDIO).digest()


@pytest.mark.usefixtures("no_waiting")
def test_an_audio_that_does_not_arrive_whole_is_not_put(azure, store):
    azure.container.blob = OLD
    cut = lambda request: audio_reply(AUDIO, request, cut_at=5)  # noqa: E731
    with ScriptedServer(cut) as source, pytest.raises(AudioTransferError, match="task 1"):
        store(source)
    assert azure.container.blob == OLD
    assert azure.requests == []


def test_a_refused_put_is_an_error_about_the_permission_and_leaves_what_was_there(azure, store):
    azure.container.blob, azure.container.refuses = OLD, "PUT"
    said = r"(?s)no permission to write abfs://clips/a.wav.*PermissionMismatch"
    with ScriptedServer(whole) as source, pytest.raises(DestinationError, match=said):
        store(source)
    assert azure.container.blob == OLD


def test_who_may_put_need_not_be_who_may_look(azure, store):
    azure.container.refuses = "HEAD"
    with ScriptedServer(whole) as source:
        store(source)
    assert azure.container.blob == AUDIO


def puts(azure):
    return [request for request in azure.requests if request.method == "PUT"]


def test_a_blob_is_only_created_with_if_exists_fail(azure, store):
    with ScriptedServer(whole) as source:
        store(source, if_exists=IfExists.FAIL)
    assert azure.container.blob == AUDIO
    (put,) = puts(azure)
    assert put.headers["if-none-match"] == "*"
    assert put.headers["x-ms-blob-content-type"] == "audio/wav"
    assert base64.b64decode(put.headers["x-ms-blob-content-md5"]) == hashlib.md5(AUDIO).digest()


@pytest.mark.parametrize("content", [OLD, AUDIO], ids=["another", "the same"])
def test_a_blob_that_appears_after_the_look_is_kept(azure, store, content):
    azure.container.before_put = lambda: setattr(azure.container, "blob", content)
    with (
        ScriptedServer(whole) as source,
        pytest.raises(DestinationError, match="exists already and if_exists is 'fail'"),
    ):
        store(source, if_exists=IfExists.FAIL)
    assert azure.container.blob == content
    assert azure.container.metadata == {}


def test_a_put_whose_response_was_lost_is_recognised(azure, store, monkeypatch):
    monkeypatch.setattr("azure.storage.blob._shared.policies_async.AsyncStorageRetryPolicy.sleep", no_pause)
    azure.container.loses_answers = [True]
    with ScriptedServer(whole) as source:
        assert store(source, if_exists=IfExists.FAIL) is None
    assert len(puts(azure)) == 2
    assert azure.container.blob == AUDIO


async def no_pause(*_):
    """Repeat a request at once."""


def test_a_missing_container_is_an_error_that_says_so(azure, store):
    azure.script[:] = [lambda request: Reply(status=404, headers={"x-ms-error-code": "ContainerNotFound"})]
    with ScriptedServer(whole) as source, pytest.raises(DestinationError, match="bucket or folder does not exist"):
        store(source, if_exists=IfExists.FAIL)
