import asyncio
import logging
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from airflow.providers.common.compat.sdk import AirflowException, ObjectStoragePath

from airflow_provider_mps.batch import deferred_lease as module
from airflow_provider_mps.batch import lock_holder as holder_module
from airflow_provider_mps.batch.deferred_lease import DeferredLease
from airflow_provider_mps.batch.lease import Lease
from airflow_provider_mps.batch.lock_holder import DEFERRED_LOCK_SECONDS, LockHolder, Phase
from airflow_provider_mps.exceptions import DestinationLockedError
from airflow_provider_mps.storage.objects import read_object, replace_object
from tests.simulated_time import run_in_simulated_time

LOG = logging.getLogger("batch")

pytestmark = pytest.mark.usefixtures("fast_lease_times")


@pytest.fixture(params=["file", "memory"])
def path(request, tmp_path):
    return ObjectStoragePath(f"{request.param}://{tmp_path}/clips/.mps-batch/lock.json")


@pytest.fixture
def deferred_holder():
    return LockHolder("dag", "run-1", "task")


@pytest.fixture
def clock(monkeypatch):
    """The wall clock, set by a test."""
    now = [1_000_000.0]
    monkeypatch.setattr(holder_module.time, "time", lambda: now[0])
    return now


def read(path):
    return LockHolder.parse(read_object(path))


async def defer(path, holder):
    lease = Lease(path, holder, LOG)
    await lease.acquire()
    await lease.mark_deferred()


def acquire(path, holder):
    run_in_simulated_time(asyncio.wait_for(Lease(path, holder, LOG).acquire(), 20))


def test_deferred_lock_is_renewed_while_its_trigger_waits(path, deferred_holder, clock):
    async def scenario():
        await defer(path, deferred_holder)
        deferred_lease = DeferredLease(str(path), deferred_holder.token, LOG)
        deferred_lease.start()
        for _ in range(10):
            clock[0] += module.RENEWAL_INTERVAL_SECONDS
            await asyncio.sleep(module.RENEWAL_INTERVAL_SECONDS)
        await deferred_lease.stop()

    run_in_simulated_time(scenario())
    # Many times as long as the lock is valid without renewal.
    with pytest.raises(DestinationLockedError, match=r"run 'run-1' \(try 0, deferred"):
        acquire(path, LockHolder("dag", "run-2", "task"))


def test_deferred_lock_without_a_trigger_expires(path, deferred_holder, clock):
    asyncio.run(defer(path, deferred_holder))
    clock[0] += DEFERRED_LOCK_SECONDS - 1
    with pytest.raises(DestinationLockedError, match="expires within 5 minutes"):
        acquire(path, LockHolder("dag", "run-2", "task"))
    clock[0] += 2
    acquire(path, LockHolder("dag", "run-2", "task"))
    assert read(path).run_id == "run-2"


def test_deferred_lock_of_version_1_0_does_not_expire(path, deferred_holder, clock):
    asyncio.run(defer(path, deferred_holder))
    replace_object(path, replace(read(path), expires_at=None).to_bytes())
    clock[0] += 1e9
    with pytest.raises(DestinationLockedError):
        acquire(path, LockHolder("dag", "run-2", "task"))


def test_deferred_task_reacquires_its_own_lock_at_once(path, deferred_holder, clock):
    asyncio.run(defer(path, deferred_holder))
    acquire(path, LockHolder("dag", "run-1", "task", try_number=2))
    assert read(path).phase is Phase.RUNNING


@pytest.mark.parametrize("action", ["renew", "release"])
@pytest.mark.parametrize("holder", ["the next attempt", "another run", None])
def test_deferred_lease_leaves_the_lock_of_another_task_unchanged(path, deferred_holder, action, holder):
    content = None
    if holder is not None:
        content = LockHolder("dag", "run-1" if "attempt" in holder else "run-2", "task").as_deferred().to_bytes()
        replace_object(path, content)

    async def scenario():
        deferred_lease = DeferredLease(str(path), deferred_holder.token, LOG)
        if action == "release":
            await deferred_lease.release()
        else:
            deferred_lease.start()
            await deferred_lease._renewal_task  # it returns

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))
    assert read_object(path) == content


def test_failed_renewal_is_retried(path, deferred_holder, monkeypatch, caplog):
    failures = [AirflowException("the storage is unavailable")]

    def fail_once(*arguments):
        if failures:
            raise failures.pop()
        replace_object(*arguments)

    async def scenario():
        await defer(path, deferred_holder)
        before = read(path).beat
        monkeypatch.setattr(module, "replace_object", fail_once)
        deferred_lease = DeferredLease(str(path), deferred_holder.token, LOG)
        deferred_lease.start()
        await asyncio.sleep(1.5 * module.RENEWAL_INTERVAL_SECONDS)
        await deferred_lease.stop()
        assert read(path).beat == before + 1

    run_in_simulated_time(scenario())
    assert "failed, will retry: the storage is unavailable" in caplog.text


def test_stop_waits_for_a_renewal_in_progress(path, deferred_holder, monkeypatch):
    started, may_write = threading.Event(), threading.Event()

    def block(*arguments):
        started.set()
        assert may_write.wait(60)
        replace_object(*arguments)

    async def scenario():
        await defer(path, deferred_holder)
        monkeypatch.setattr(module, "replace_object", block)
        deferred_lease = DeferredLease(str(path), deferred_holder.token, LOG)
        deferred_lease.start()
        await asyncio.to_thread(started.wait, 60)
        stopping = asyncio.create_task(deferred_lease.stop())
        done, _ = await asyncio.wait([stopping], timeout=0.05)
        assert not done
        may_write.set()
        await stopping

    asyncio.run(scenario())


def test_renewal_does_not_block_the_event_loop(path, deferred_holder, monkeypatch):
    def block(*arguments):
        time.sleep(0.3)
        return read_object(*arguments)

    monkeypatch.setattr(module, "read_object", block)

    async def scenario():
        await defer(path, deferred_holder)
        deferred_lease = DeferredLease(str(path), deferred_holder.token, LOG)
        deferred_lease.start()
        await asyncio.sleep(0)
        ticks = 0
        while not deferred_lease._call or not deferred_lease._call.done():
            await asyncio.sleep(0.01)
            ticks += 1
        await deferred_lease.stop()
        return ticks

    assert asyncio.run(scenario()) >= 3


@pytest.mark.parametrize(
    ("path", "is_renewed"),
    [
        ("s3://bucket/lock.json", True),
        ("s3://conn@bucket/lock.json", False),
        ("cos://clips-1250000000/lock.json", False),
    ],
)
def test_start_without_connections_in_threads_does_not_renew(monkeypatch, path, is_renewed):
    """https://github.com/apache/airflow/issues/64620"""
    monkeypatch.setattr(module, "get_conditional_object", lambda _: None)
    monkeypatch.setattr(module, "read_object", calls := Mock(return_value=None))
    monkeypatch.setitem(sys.modules, "airflow.jobs.triggerer_job_runner", SimpleNamespace(TriggerCommsDecoder=object))

    async def scenario():
        deferred_lease = DeferredLease(path, "token", LOG)
        deferred_lease.start()
        await asyncio.sleep(1)
        await deferred_lease.stop()

    run_in_simulated_time(scenario())
    assert calls.call_count == is_renewed
