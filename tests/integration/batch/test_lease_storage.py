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

from airflow_provider_mps.batch import lease as lease_module
from airflow_provider_mps.batch.lease import Lease
from airflow_provider_mps.batch.lock_holder import LockHolder
from airflow_provider_mps.exceptions import DestinationLockedError
from airflow_provider_mps.storage.conditional_write import EnforcedConditions
from airflow_provider_mps.storage.objects import read_object, remove_object
from tests.batching import run_batch
from tests.conditional_s3 import ConditionalS3, Conditions
from tests.scripted_server import Reply, ScriptedServer, make_json_reply
from tests.simulated_time import run_in_simulated_time

LOCK = ".mps-batch/lock.json"


@pytest.fixture(autouse=True)
def lease_times(monkeypatch):
    """Long lease times in simulated time, in which the machine's own clocks hardly advance."""
    for name, seconds in (
        ("HEARTBEAT_INTERVAL_SECONDS", 20.0),
        ("LEASE_VALIDITY_SECONDS", 60.0),
        ("LEASE_EXPIRY_SECONDS", 90.0),
        ("SETTLE_DELAY_SECONDS", 30.0),
    ):
        monkeypatch.setattr(lease_module, name, seconds)


@pytest.fixture
def confirmed_runs(monkeypatch):
    """The runs that confirmed their lock after the settle delay."""
    runs, confirm = [], Lease._confirm_after_delay

    async def record(lease):
        runs.append(lease._holder.run_id)
        await confirm(lease)

    monkeypatch.setattr(Lease, "_confirm_after_delay", record)
    return runs


def make_lease(path, run_id):
    return Lease(path, LockHolder("dag", run_id, "task"), logging.getLogger("batch"))


async def use_lock(path):
    """Hold the lock for two heartbeats, reject another batch meanwhile, then expire and be taken over."""
    first = make_lease(path, "first")
    await first.acquire()
    heartbeat = asyncio.create_task(first.heartbeat())
    while first._holder.beat < 2:
        await asyncio.sleep(10)
    with pytest.raises(DestinationLockedError, match="run 'first'"):
        await make_lease(path, "rejected").acquire()
    heartbeat.cancel()
    await asyncio.wait([heartbeat])
    second = make_lease(path, "second")
    await second.acquire()
    assert second.is_held()
    with pytest.raises(DestinationLockedError, match="run 'second'"):
        await first.heartbeat()
    await second.mark_deferred()
    third = make_lease(path, "second")
    await third.acquire()
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
    ("conditions", "enforced", "expected_confirmations"),
    [
        (Conditions.S3, EnforcedConditions(create=True, replace=True), []),
        (Conditions.COS, EnforcedConditions(create=True), ["second", "second"]),
        (Conditions.IGNORED, EnforcedConditions(), ["first", "second", "second"]),
        (Conditions.NOT_IMPLEMENTED, EnforcedConditions(), ["first", "second", "second"]),
    ],
)
def test_s3_lock_uses_the_conditions_that_the_server_enforces(
    open_s3, confirmed_runs, conditions, enforced, expected_confirmations
):
    s3, root = open_s3(conditions)
    assert run_in_simulated_time(use_lock(ObjectStoragePath(f"{root}{LOCK}"))) == enforced
    assert confirmed_runs == expected_confirmations
    assert s3.objects == {}
    conditions_sent = s3.conditions_of("PUT")
    assert conditions_sent[0] == (
        "x-cos-forbid-overwrite: true" if conditions is Conditions.COS else "if-none-match: *"
    )
    assert (None in conditions_sent) is not enforced.replace


def test_concurrent_batches_only_one_acquires_the_s3_lock(open_s3):
    _, root = open_s3(Conditions.S3)

    async def both():
        leases = [make_lease(ObjectStoragePath(f"{root}{LOCK}"), f"run-{number}") for number in range(2)]

        async def work(lease):
            await lease.acquire()
            heartbeat = asyncio.create_task(lease.heartbeat())
            await asyncio.sleep(200)
            heartbeat.cancel()

        return await asyncio.gather(*(work(lease) for lease in leases), return_exceptions=True)

    outcomes = run_in_simulated_time(both())
    assert sum(outcome is None for outcome in outcomes) == 1
    assert sum(isinstance(outcome, DestinationLockedError) for outcome in outcomes) == 1


def test_batch_runs_in_conditional_storage(open_s3, app, manifest):
    s3, root = open_s3(Conditions.S3)
    assert run_batch(manifest(3), f"{root}clips/")["stored"] == 3
    assert f"clips/{LOCK}" not in s3.objects
    assert len([key for key in s3.objects if key.endswith(".wav")]) == 3


class Gcs:
    """The part of Google's JSON API that one object needs."""

    def __init__(self):
        self.content, self.generation = None, 0
        self.conditions = []
        self._generations = itertools.count(1_700_000_000)

    def __call__(self, request):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(request.target).query)
        if request.method == "POST":
            condition = int(query["ifGenerationMatch"][0]) if "ifGenerationMatch" in query else None
            self.conditions.append(condition)
            if condition is not None and condition != self.generation:
                return make_json_reply({"error": {"code": 412, "message": "conditionNotMet"}}, 412)
            self.content, self.generation = request.body, next(self._generations)
            return make_json_reply({"name": LOCK, "bucket": "clips", "generation": str(self.generation)})
        if self.content is None:
            return make_json_reply({"error": {"code": 404, "message": "Not Found"}}, 404)
        if request.method == "DELETE":
            self.content, self.generation = None, 0
            return Reply(status=204)
        return Reply(self.content, 200, {"X-Goog-Generation": str(self.generation)})


class Azure:
    """The part of Azure's Blob API that one blob needs."""

    def __init__(self):
        self.content, self.etag = None, None
        self.conditions = []
        self._etags = (f'"0x{number:X}"' for number in itertools.count(256))

    def __call__(self, request):
        headers = request.headers
        if request.method == "PUT":
            condition = next(
                (f"{name}: {headers[name]}" for name in ("if-none-match", "if-match") if name in headers), None
            )
            self.conditions.append(condition)
            if headers.get("if-none-match") == "*" and self.content is not None:
                return Reply(status=409, headers={"x-ms-error-code": "BlobAlreadyExists"})
            if headers.get("if-match", self.etag) != self.etag:
                return Reply(status=412, headers={"x-ms-error-code": "ConditionNotMet"})
            self.content, self.etag = request.body, next(self._etags)
            return Reply(status=201, headers=self._headers)
        if self.content is None:
            return Reply(status=404, headers={"x-ms-error-code": "BlobNotFound"})
        if request.method == "DELETE":
            self.content, self.etag = None, None
            return Reply(status=202)
        size = len(self.content)
        return Reply(self.content, 206, {**self._headers, "Content-Range": f"bytes 0-{size - 1}/{size}"})

    @property
    def _headers(self):
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
def test_gcs_and_azure_locks_use_conditional_writes(monkeypatch, confirmed_runs, api, connect, creation):
    storage = api()
    with ScriptedServer(storage) as server:
        fs, scheme = connect(server.url)
        for used_in in ("storage.objects", "storage.conditional_write"):
            monkeypatch.setattr(f"airflow_provider_mps.{used_in}.get_filesystem", lambda *_: fs)
        path = ObjectStoragePath(f"{scheme}://clips/{LOCK}")
        assert run_in_simulated_time(use_lock(path)) == EnforcedConditions(create=True, replace=True)
        assert read_object(path) is None
        remove_object(path)
    assert confirmed_runs == []
    assert storage.conditions[0] == creation
    assert None not in storage.conditions
