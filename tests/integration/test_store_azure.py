"""Storing through adlfs to a server that answers as Azure's Blob API does; its requests are recorded."""

import base64
import hashlib
import logging

import adlfs
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.audio import store_audio
from airflow_provider_mps.errors import AudioTransferError, DestinationError
from tests.scripted_server import Reply, ScriptedServer, audio_reply

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

    def __call__(self, request):
        if request.method == self.refuses:
            return Reply(status=403, headers={"x-ms-error-code": "AuthorizationPermissionMismatch"})
        if request.method == "PUT":
            self.blob = request.body
            return Reply(status=201, headers=self._headers(0))
        if request.method == "HEAD" and "/clips/a.wav" in request.target:
            return Reply(headers=self._headers(len(self.blob)))
        return Reply(status=404, headers={"x-ms-error-code": "BlobNotFound"})

    def _headers(self, length):
        return {
            "Content-Length": str(length),
            "Last-Modified": "Wed, 25 Nov 2026 00:00:00 GMT",
            "ETag": '"0x1"',
            "x-ms-blob-type": "BlockBlob",
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

    def store(source):
        path = ObjectStoragePath("abfs://clips/a.wav")
        store_audio(source.url, path, fresh_url=lambda: source.url, subject="task 1", log=logging.getLogger())

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
