"""The lock of a batch in storage that enforces conditional writes, and in storage that does not."""

import asyncio
import base64
import itertools
import logging
import urllib.parse

import adlfs
import gcsfs
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.batch import lease as module
from airflow_provider_mps.batch.lease import DestinationTakenError, Holder, Lease
from airflow_provider_mps.batch.objects import read_object, remove_object
from airflow_provider_mps.conditional_write import Enforced
from tests.batching import run_batch
from tests.conditional_s3 import ConditionalS3, Conditions
from tests.scripted_server import Reply, ScriptedServer, json_reply
from tests.simulated_time import run_in_simulated_time

LOCK = ".mps-batch/lock.json"


@pytest.fixture(autouse=True)
def lease_times(monkeypatch):
    """In simulated time, beside which the machine's own clocks hardly advance."""
    for name, seconds in (("BEAT", 20.0), ("VALID", 60.0), ("DEAD", 90.0), ("SETTLED", 30.0)):
        monkeypatch.setattr(module, name, seconds)


@pytest.fixture
def settled(monkeypatch):
    """The runs that have waited and looked."""
    runs, settle = [], Lease._settle

    async def listen(lease):
        runs.append(lease._mine.run_id)
        await settle(lease)

    monkeypatch.setattr(Lease, "_settle", listen)
    return runs


def lease(path, run_id):
    return Lease(path, Holder("dag", run_id, "task"), logging.getLogger("batch"))


async def live_and_die(path):
    """Take the lock, keep it for two heartbeats, and die; let another be refused before, and take over after it."""
    first = lease(path, "first")
    await first.take()
    keeping = asyncio.create_task(first.keep())
    while first._mine.beat < 2:
        await asyncio.sleep(10)
    with pytest.raises(DestinationTakenError, match="run 'first'"):
        await lease(path, "refused").take()
    keeping.cancel()
    await asyncio.wait([keeping])
    second = lease(path, "second")
    await second.take()
    assert second.is_held()
    with pytest.raises(DestinationTakenError, match="run 'second'"):
        await first.keep()
    await second.park()
    third = lease(path, "second")
    await third.take()
    await third.release()
    return first._enforced


@pytest.fixture
def open_s3(monkeypatch):
    opened = []

    def start(conditions):
        s3 = ConditionalS3(conditions).__enter__()
        opened.append(s3)
        conn_id, connection, root = s3.connection()
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", connection)
        return s3, root

    yield start
    for s3 in opened:
        s3.__exit__()


@pytest.mark.parametrize(
    ("conditions", "enforced", "waiting"),
    [
        (Conditions.S3, Enforced(create=True, replace=True), []),
        (Conditions.COS, Enforced(create=True), ["second", "second"]),
        (Conditions.IGNORED, Enforced(), ["first", "second", "second"]),
        (Conditions.NOT_IMPLEMENTED, Enforced(), ["first", "second", "second"]),
    ],
)
def test_lock_in_s3_is_written_as_safely_as_the_server_allows(open_s3, settled, conditions, enforced, waiting):
    s3, root = open_s3(conditions)
    assert run_in_simulated_time(live_and_die(ObjectStoragePath(f"{root}{LOCK}"))) == enforced
    assert settled == waiting
    assert s3.objects == {}
    conditions_sent = s3.conditions_of("PUT")
    assert conditions_sent[0] == (
        "x-cos-forbid-overwrite: true" if conditions is Conditions.COS else "if-none-match: *"
    )
    assert (None in conditions_sent) is not enforced.replace


def test_of_two_that_come_at_once_one_gets_the_lock(open_s3):
    _, root = open_s3(Conditions.S3)

    async def both():
        leases = [lease(ObjectStoragePath(f"{root}{LOCK}"), f"run-{number}") for number in range(2)]

        async def work(mine):
            await mine.take()
            keeping = asyncio.create_task(mine.keep())
            await asyncio.sleep(200)
            keeping.cancel()

        return await asyncio.gather(*(work(mine) for mine in leases), return_exceptions=True)

    outcomes = run_in_simulated_time(both())
    assert sum(outcome is None for outcome in outcomes) == 1
    assert sum(isinstance(outcome, DestinationTakenError) for outcome in outcomes) == 1


def test_batch_runs_where_conditions_are_enforced(open_s3, app, manifest):
    s3, root = open_s3(Conditions.S3)
    assert run_batch(manifest(3), f"{root}clips/")["stored"] == 3
    assert f"clips/{LOCK}" not in s3.objects
    assert len([key for key in s3.objects if key.endswith(".wav")]) == 3


class Gcs:
    """Google's JSON API, as far as one object needs it."""

    def __init__(self):
        self.content, self.generation = None, 0
        self.conditions = []
        self._generations = itertools.count(1_700_000_000)

    def __call__(self, request):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(request.target).query)
        if request.method == "POST":
            wanted = int(query["ifGenerationMatch"][0]) if "ifGenerationMatch" in query else None
            self.conditions.append(wanted)
            if wanted is not None and wanted != self.generation:
                return json_reply({"error": {"code": 412, "message": "conditionNotMet"}}, 412)
            self.content, self.generation = request.body, next(self._generations)
            return json_reply({"name": LOCK, "bucket": "clips", "generation": str(self.generation)})
        if self.content is None:
            return json_reply({"error": {"code": 404, "message": "Not Found"}}, 404)
        if request.method == "DELETE":
            self.content, self.generation = None, 0
            return Reply(status=204)
        return Reply(self.content, 200, {"X-Goog-Generation": str(self.generation)})


class Azure:
    """Azure's Blob API, as far as one blob needs it."""

    def __init__(self):
        self.content, self.etag = None, None
        self.conditions = []
        self._etags = (f'"0x{number:X}"' for number in itertools.count(256))

    def __call__(self, request):
        headers = request.headers
        if request.method == "PUT":
            wanted = next(
                (f"{name}: {headers[name]}" for name in ("if-none-match", "if-match") if name in headers), None
            )
            self.conditions.append(wanted)
            if headers.get("if-none-match") == "*" and self.content is not None:
                return Reply(status=409, headers={"x-ms-error-code": "BlobAlreadyExists"})
            if headers.get("if-match", self.etag) != self.etag:
                return Reply(status=412, headers={"x-ms-error-code": "ConditionNotMet"})
            self.content, self.etag = request.body, next(self._etags)
            return Reply(status=201, headers=self._head)
        if self.content is None:
            return Reply(status=404, headers={"x-ms-error-code": "BlobNotFound"})
        if request.method == "DELETE":
            self.content, self.etag = None, None
            return Reply(status=202)
        size = len(self.content)
        return Reply(self.content, 206, {**self._head, "Content-Range": f"bytes 0-{size - 1}/{size}"})

    @property
    def _head(self):
        return {"ETag": self.etag, "Last-Modified": "Wed, 25 Nov 2026 00:00:00 GMT", "x-ms-blob-type": "BlockBlob"}


def gcs_at(url):
    return gcsfs.GCSFileSystem(token="anon", endpoint_url=url, project="test", skip_instance_cache=True), "gs"


def azure_at(url):
    key = base64.b64encode(b"some key").decode()
    connection = f"DefaultEndpointsProtocol=http;AccountName=account;AccountKey={key};BlobEndpoint={url}/account"
    return adlfs.AzureBlobFileSystem(
        account_name="account", connection_string=connection, skip_instance_cache=True
    ), "abfs"


@pytest.mark.parametrize(
    ("api", "connect", "creation"), [(Gcs, gcs_at, 0), (Azure, azure_at, "if-none-match: *")], ids=["gcs", "azure"]
)
def test_lock_in_other_storage_is_written_with_its_conditions(monkeypatch, settled, api, connect, creation):
    storage = api()
    with ScriptedServer(storage) as server:
        fs, scheme = connect(server.url)
        for used_in in ("batch.objects", "conditional_write"):
            monkeypatch.setattr(f"airflow_provider_mps.{used_in}.filesystem_of", lambda *_: fs)
        path = ObjectStoragePath(f"{scheme}://clips/{LOCK}")
        assert run_in_simulated_time(live_and_die(path)) == Enforced(create=True, replace=True)
        assert read_object(path) is None
        remove_object(path)
    assert settled == []
    assert storage.conditions[0] == creation
    assert None not in storage.conditions
