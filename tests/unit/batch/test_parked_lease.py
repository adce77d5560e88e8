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

from airflow_provider_mps.batch import holder as holder_module
from airflow_provider_mps.batch import lease as lease_module
from airflow_provider_mps.batch import parked_lease as module
from airflow_provider_mps.batch.holder import PARKED_SECONDS, Holder, Phase
from airflow_provider_mps.batch.lease import DestinationTakenError, Lease
from airflow_provider_mps.batch.objects import read_object, replace_object
from airflow_provider_mps.batch.parked_lease import ParkedLease
from tests.simulated_time import run_in_simulated_time

LOG = logging.getLogger("batch")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, seconds in (("BEAT", 0.1), ("VALID", 0.5), ("DEAD", 0.8), ("SETTLED", 0.2)):
        monkeypatch.setattr(lease_module, name, seconds)


@pytest.fixture(params=["file", "memory"])
def path(request, tmp_path):
    return ObjectStoragePath(f"{request.param}://{tmp_path}/clips/.mps-batch/lock.json")


@pytest.fixture
def mine():
    return Holder("dag", "run-1", "task")


@pytest.fixture
def clock(monkeypatch):
    """The wall clock, which a test sets."""
    now = [1_000_000.0]
    monkeypatch.setattr(holder_module.time, "time", lambda: now[0])
    return now


def read(path):
    return Holder.parse(read_object(path))


async def park(path, holder):
    lease = Lease(path, holder, LOG)
    await lease.take()
    await lease.park()


def take(path, holder):
    run_in_simulated_time(asyncio.wait_for(Lease(path, holder, LOG).take(), 20))


def test_lock_of_a_deferred_batch_is_renewed_while_its_trigger_waits(path, mine, clock):
    async def wait():
        await park(path, mine)
        parked = ParkedLease(str(path), mine.token, LOG)
        parked.start()
        for _ in range(10):
            clock[0] += module.RENEW_SECONDS
            await asyncio.sleep(module.RENEW_SECONDS)
        await parked.stop()

    run_in_simulated_time(wait())
    # Many times as long as it would last by itself.
    with pytest.raises(DestinationTakenError, match=r"run 'run-1' \(try 0, deferred"):
        take(path, Holder("dag", "run-2", "task"))


def test_lock_that_no_trigger_renews_expires(path, mine, clock):
    asyncio.run(park(path, mine))
    clock[0] += PARKED_SECONDS - 1
    with pytest.raises(DestinationTakenError, match="expires within 5 minutes"):
        take(path, Holder("dag", "run-2", "task"))
    clock[0] += 2
    take(path, Holder("dag", "run-2", "task"))
    assert read(path).run_id == "run-2"


def test_lock_that_version_1_0_has_left_does_not_expire(path, mine, clock):
    asyncio.run(park(path, mine))
    replace_object(path, replace(read(path), expires_at=None).to_bytes())
    clock[0] += 1e9
    with pytest.raises(DestinationTakenError):
        take(path, Holder("dag", "run-2", "task"))


def test_the_task_itself_resumes_at_once(path, mine, clock):
    asyncio.run(park(path, mine))
    take(path, Holder("dag", "run-1", "task", try_number=2))
    assert read(path).phase is Phase.RUNNING


@pytest.mark.parametrize("act", ["renew", "release"])
@pytest.mark.parametrize("holder", ["the next attempt", "another run", None])
def test_lock_of_another_task_is_left_alone(path, mine, act, holder):
    content = None
    if holder is not None:
        content = Holder("dag", "run-1" if "attempt" in holder else "run-2", "task").parked().to_bytes()
        replace_object(path, content)

    async def wait():
        parked = ParkedLease(str(path), mine.token, LOG)
        if act == "release":
            await parked.release()
        else:
            parked.start()
            await parked._keeping  # it ends by itself

    run_in_simulated_time(asyncio.wait_for(wait(), 20))
    assert read_object(path) == content


def test_renewal_that_fails_is_repeated(path, mine, monkeypatch, caplog):
    failures = [AirflowException("the storage is away")]

    def flaky(*arguments):
        if failures:
            raise failures.pop()
        replace_object(*arguments)

    async def wait():
        await park(path, mine)
        before = read(path).beat
        monkeypatch.setattr(module, "replace_object", flaky)
        parked = ParkedLease(str(path), mine.token, LOG)
        parked.start()
        await asyncio.sleep(1.5 * module.RENEW_SECONDS)
        await parked.stop()
        assert read(path).beat == before + 1

    run_in_simulated_time(wait())
    assert "could not be renewed, will retry: the storage is away" in caplog.text


def test_stop_waits_for_a_renewal_on_its_way(path, mine, monkeypatch):
    started, may_write = threading.Event(), threading.Event()

    def slow(*arguments):
        started.set()
        assert may_write.wait(60)
        replace_object(*arguments)

    async def wait():
        await park(path, mine)
        monkeypatch.setattr(module, "replace_object", slow)
        parked = ParkedLease(str(path), mine.token, LOG)
        parked.start()
        await asyncio.to_thread(started.wait, 60)
        stopping = asyncio.create_task(parked.stop())
        done, _ = await asyncio.wait([stopping], timeout=0.05)
        assert not done
        may_write.set()
        await stopping

    asyncio.run(wait())


def test_event_loop_of_a_triggerer_is_not_blocked(path, mine, monkeypatch):
    def slow(*arguments):
        time.sleep(0.3)
        return read_object(*arguments)

    monkeypatch.setattr(module, "read_object", slow)

    async def wait():
        await park(path, mine)
        parked = ParkedLease(str(path), mine.token, LOG)
        parked.start()
        await asyncio.sleep(0)
        ticks = 0
        while not parked._call or not parked._call.done():
            await asyncio.sleep(0.01)
            ticks += 1
        await parked.stop()
        return ticks

    assert asyncio.run(wait()) >= 3


@pytest.mark.parametrize(
    ("path", "is_renewed"),
    [
        ("s3://bucket/lock.json", True),
        ("s3://conn@bucket/lock.json", False),
        ("cos://clips-1250000000/lock.json", False),
    ],
)
def test_triggerer_that_cannot_look_up_connections_in_threads_is_not_asked_to(monkeypatch, path, is_renewed):
    """https://github.com/apache/airflow/issues/64620"""
    monkeypatch.setattr(module, "conditional_object", lambda _: None)
    monkeypatch.setattr(module, "read_object", calls := Mock(return_value=None))
    monkeypatch.setitem(sys.modules, "airflow.jobs.triggerer_job_runner", SimpleNamespace(TriggerCommsDecoder=object))

    async def wait():
        parked = ParkedLease(path, "token", LOG)
        parked.start()
        await asyncio.sleep(1)
        await parked.stop()

    run_in_simulated_time(wait())
    assert calls.call_count == is_renewed
