import asyncio
import hashlib
import json
import logging
import threading
from contextlib import suppress
from dataclasses import asdict
from itertools import pairwise
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowException, ObjectStoragePath

from airflow_provider_mps.batch import lease as lease_module
from airflow_provider_mps.batch import lock_holder as holder_module
from airflow_provider_mps.batch.lease import Lease, release_own_deferred_lock
from airflow_provider_mps.batch.lock_holder import LockHolder, Phase
from airflow_provider_mps.exceptions import DestinationLockedError
from airflow_provider_mps.storage.conditional_write import ConditionFailedError, EnforcedConditions
from airflow_provider_mps.storage.objects import read_object, remove_object, replace_object
from tests.simulated_time import run_in_simulated_time

LOG = logging.getLogger("batch")

pytestmark = pytest.mark.usefixtures("fast_lease_times")


@pytest.fixture(autouse=True)
def system_clocks(monkeypatch):
    """Two system clocks that a test sets, besides the simulated clock of the event loop."""
    seconds = {"boot": 0.0, "wall": 1.7e9}
    readers = tuple(lambda name=name: seconds[name] for name in seconds)
    monkeypatch.setattr(holder_module, "SYSTEM_CLOCKS", readers)
    return seconds


class InMemoryObject:
    """Stand-in for a ``ConditionalObject``: an object of the memory filesystem with conditional writes."""

    nonexistent_version = "another"
    lock = threading.Lock()

    def __init__(self, path):
        self._path = path

    def read(self):
        content = read_object(self._path)
        return None if content is None else (content, hashlib.md5(content).hexdigest())

    def write(self, content, version):
        with self.lock:
            current = self.read()
            if (current[1] if current else None) != version:
                raise ConditionFailedError("changed")
            replace_object(self._path, content)
            return hashlib.md5(content).hexdigest()


def make_path(kind, tmp_path, monkeypatch):
    if kind == "conditional":
        monkeypatch.setattr(lease_module, "get_conditional_object", InMemoryObject)
    scheme = "file" if kind == "file" else "memory"
    return ObjectStoragePath(f"{scheme}://{tmp_path}/clips/.mps-batch/lock.json")


@pytest.fixture(params=["file", "memory", "conditional"])
def path(request, tmp_path, monkeypatch):
    return make_path(request.param, tmp_path, monkeypatch)


@pytest.fixture(params=["file", "memory"])
def unconditional_path(request, tmp_path, monkeypatch):
    """A lock in storage without conditional replacement."""
    return make_path(request.param, tmp_path, monkeypatch)


@pytest.fixture
def conditional_path(tmp_path, monkeypatch):
    """A lock in storage with conditional writes."""
    return make_path("conditional", tmp_path, monkeypatch)


def make_lease(path, run_id="run-1", try_number=1):
    return Lease(path, LockHolder("dag", run_id, "task", -1, try_number), LOG)


def test_free_or_released_lock_is_acquired_at_once(path):
    async def scenario():
        first = make_lease(path)
        await first.acquire()
        await first.ensure_held()
        await first.release()
        await make_lease(path, "run-2").acquire()

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))


def test_lock_released_during_a_takeover_is_acquired_at_once(path):
    async def scenario():
        first, second = make_lease(path), make_lease(path, "run-2")
        await first.acquire()
        acquiring = asyncio.create_task(second.acquire())
        await asyncio.sleep(0.3)
        await first.release()
        await acquiring
        await second.ensure_held()

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))


def test_live_lock_is_respected_if_create_overwrites(path, monkeypatch):
    def overwrite(path, content):
        replace_object(path, content)
        return True

    monkeypatch.setattr(lease_module, "create_object", overwrite)

    async def scenario():
        first = make_lease(path)
        await first.acquire()
        heartbeat = asyncio.create_task(first.heartbeat())
        with pytest.raises(DestinationLockedError, match="run-1"):
            await make_lease(path, "run-2").acquire()
        heartbeat.cancel()
        await first.mark_deferred()
        with pytest.raises(DestinationLockedError, match="run-1"):
            await make_lease(path, "run-2").acquire()

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))


def test_lock_created_between_read_and_create_is_respected(path, monkeypatch):
    def create_too_late(path, _):
        replace_object(path, LockHolder("dag", "run-1", "task", phase=Phase.DEFERRED).to_bytes())
        return False

    monkeypatch.setattr(lease_module, "create_object", create_too_late)
    with pytest.raises(DestinationLockedError, match="run-1"):
        run_in_simulated_time(asyncio.wait_for(make_lease(path, "run-2").acquire(), 20))


@pytest.mark.parametrize("end", [Lease.mark_deferred, Lease.release])
def test_heartbeat_in_flight_does_not_overwrite_release_or_deferral(unconditional_path, monkeypatch, end):
    started, may_write, written = threading.Event(), threading.Event(), threading.Event()

    def write_slowly(path, content):
        started.set()
        assert may_write.wait(60)
        replace_object(path, content)
        written.set()

    async def scenario():
        first = make_lease(unconditional_path)
        await first.acquire()
        with monkeypatch.context() as patched:
            patched.setattr(lease_module, "replace_object", write_slowly)
            heartbeat = asyncio.create_task(first.heartbeat())
            await asyncio.to_thread(started.wait, 60)
            heartbeat.cancel()
            await asyncio.wait([heartbeat])
        read = first._read

        async def read_after_write():
            assert written.is_set()
            return await read()

        monkeypatch.setattr(first, "_read", read_after_write)
        ending = asyncio.create_task(end(first))
        await asyncio.sleep(0)  # until it delays for the heartbeat
        may_write.set()
        await ending

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))
    remaining = read_object(unconditional_path)
    assert remaining is None if end is Lease.release else LockHolder.parse(remaining).phase is Phase.DEFERRED


def test_failed_heartbeat_is_retried(path, monkeypatch, caplog):
    async def scenario():
        lease = make_lease(path)
        await lease.acquire()
        replace_lock, failures = lease._replace, [AirflowException("the storage is unavailable")]

        async def write(holder):
            if failures:
                raise failures.pop()
            await replace_lock(holder)

        monkeypatch.setattr(lease, "_replace", write)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await lease.heartbeat()
        await lease.ensure_held()

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))
    assert "failed, will retry: the storage is unavailable" in caplog.text


def test_holder_round_trip_keeps_all_fields():
    holder = LockHolder("dag", "run", "task", 3, 2, 1, beat=4, phase=Phase.DEFERRED)
    assert LockHolder.parse(holder.to_bytes()) == holder


def test_second_batch_is_rejected_with_the_holder_named(path):
    async def scenario():
        first = make_lease(path)
        await first.acquire()
        heartbeat = asyncio.create_task(first.heartbeat())
        with pytest.raises(
            DestinationLockedError, match=r"task 'task' of DAG 'dag', run 'run-1' \(try 1, running since"
        ):
            await make_lease(path, "run-2").acquire()
        heartbeat.cancel()

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))


def test_next_attempt_of_the_same_task_respects_a_live_lock(path):
    async def scenario():
        first = make_lease(path)
        await first.acquire()
        heartbeat = asyncio.create_task(first.heartbeat())
        with pytest.raises(DestinationLockedError):
            await make_lease(path, try_number=2).acquire()
        heartbeat.cancel()

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))


def test_expired_lock_is_taken_over(path, caplog):
    async def scenario():
        await make_lease(path).acquire()
        await make_lease(path, "run-2").acquire()

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))
    assert "No heartbeat for" in caplog.text


@pytest.mark.parametrize("earlier", [False, True])
def test_concurrent_batches_only_one_acquires_the_lock(path, earlier):
    async def work(run_id):
        lease = make_lease(path, run_id)
        await lease.acquire()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await lease.heartbeat()
        return run_id

    async def scenario():
        if earlier:
            await make_lease(path, "dead").acquire()
        return await asyncio.gather(*(work(f"run-{number}") for number in range(4)), return_exceptions=True)

    results = run_in_simulated_time(asyncio.wait_for(scenario(), 30))
    assert sum(isinstance(result, str) for result in results) == 1
    assert sum(isinstance(result, DestinationLockedError) for result in results) == 3


def test_deferred_lock_needs_no_heartbeats_and_admits_its_own_task(path):
    async def scenario():
        first = make_lease(path)
        await first.acquire()
        await first.mark_deferred()
        with pytest.raises(DestinationLockedError, match="deferred since"):
            await make_lease(path, "run-2").acquire()
        await make_lease(path, try_number=1).acquire()

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))


def test_lost_lock_raises_and_is_not_overwritten(path):
    async def scenario():
        first = make_lease(path)
        await first.acquire()
        replace_object(path, LockHolder("dag", "run-2", "task").to_bytes())
        with pytest.raises(DestinationLockedError, match="run-2"):
            await first.heartbeat()
        assert first.is_lost
        with pytest.raises(DestinationLockedError, match="run-2"):
            await first.ensure_held()
        await first.release()

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))
    assert LockHolder.parse(read_object(path)).run_id == "run-2"


def delay_next_write(monkeypatch, lease, seconds):
    """Delay the next write of a lease."""
    replace_lock, delays = lease._replace, [seconds]

    async def write(holder):
        await asyncio.sleep(delays.pop() if delays else 0)
        await replace_lock(holder)

    monkeypatch.setattr(lease, "_replace", write)


def test_heartbeat_slower_than_a_takeover_ends_the_lease(unconditional_path, monkeypatch):
    async def scenario():
        first, second = make_lease(unconditional_path), make_lease(unconditional_path, "run-2")
        await first.acquire()
        delay_next_write(monkeypatch, first, 3)
        heartbeat = asyncio.create_task(first.heartbeat())
        await second.acquire()
        with pytest.raises(TimeoutError):  # meanwhile the batch submits nothing
            async with asyncio.timeout(0.2):
                await first.ensure_held()
        with pytest.raises(DestinationLockedError, match=r"took 3 seconds, .*a retry continues"):
            await heartbeat
        assert first.is_lost
        with pytest.raises(DestinationLockedError):  # its heartbeat was overwritten
            await second.heartbeat()

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))


def test_holder_resumes_after_an_outage_before_a_takeover(path, monkeypatch):
    async def scenario():
        first, second = make_lease(path), make_lease(path, "run-2")
        await first.acquire()
        await asyncio.sleep(1)  # an outage, in which no heartbeat is written
        acquiring = asyncio.create_task(second.acquire())
        await asyncio.sleep(0.3)
        heartbeat = asyncio.create_task(first.heartbeat())
        with pytest.raises(DestinationLockedError, match="run-1"):
            await acquiring
        async with asyncio.timeout(5):
            await first.ensure_held()
        heartbeat.cancel()

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))


def test_slow_takeover_is_repeated(unconditional_path, monkeypatch, caplog):
    async def scenario():
        await make_lease(unconditional_path).acquire()
        slow = make_lease(unconditional_path, "run-2")
        delay_next_write(monkeypatch, slow, 0.5)
        await slow.acquire()
        await slow.ensure_held()

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))
    assert "took too long to be safe" in caplog.text


@pytest.mark.parametrize("seconds", [0.1, 0.4])
def test_concurrent_takeovers_never_work_at_the_same_time(path, monkeypatch, seconds):
    worked = []

    async def work(lease):
        clock = asyncio.get_running_loop().time
        await lease.acquire()
        since = clock()
        with suppress(DestinationLockedError, TimeoutError):
            async with asyncio.timeout(2):
                await lease.heartbeat()
        worked.append((since, clock()))

    async def scenario():
        await make_lease(path, "dead").acquire()
        fast, slow = make_lease(path, "fast"), make_lease(path, "slow")
        delay_next_write(monkeypatch, slow, seconds)
        await asyncio.gather(work(fast), work(slow), return_exceptions=True)

    run_in_simulated_time(asyncio.wait_for(scenario(), 30))
    assert worked
    worked.sort()
    assert all(ended <= began for (_, ended), (began, _) in pairwise(worked))


def test_acquire_in_slow_storage_fails_after_all_attempts(unconditional_path, monkeypatch):
    monkeypatch.setattr(lease_module, "SETTLE_DELAY_SECONDS", -1)
    replace_object(unconditional_path, LockHolder("dag", "run-1", "task", phase=Phase.DEFERRED).to_bytes())
    with pytest.raises(AirflowException, match=r"could not be acquired in .* Nothing was submitted"):
        run_in_simulated_time(make_lease(unconditional_path).acquire())


def test_removed_lock_is_lost(path):
    async def scenario():
        first = make_lease(path)
        await first.acquire()
        await first.release()
        with pytest.raises(DestinationLockedError, match="its lock was removed"):
            await first.heartbeat()

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))


def test_ensure_held_waits_for_a_recent_heartbeat(path):
    async def scenario():
        first = make_lease(path)
        await first.acquire()
        await asyncio.sleep(0.7)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await first.ensure_held()
        heartbeat = asyncio.create_task(first.heartbeat())
        async with asyncio.timeout(5):
            await first.ensure_held()
        heartbeat.cancel()

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))


def test_corrupt_lock_expires(path):
    async def scenario():
        replace_object(path, b"{broken")
        await make_lease(path).acquire()

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"{}", b"null", b'{"phase": "asleep"}', b"[" * 100_000),
        json.dumps({**asdict(LockHolder("dag", "run", "task")), "map_index": "one"}).encode(),
        json.dumps({**asdict(LockHolder("dag", "run", "task")), "beat": float("inf")}).encode(),
        json.dumps({**asdict(LockHolder("dag", "run", "task")), "token": None}).replace('"token": null, ', "").encode(),
    ],
)
def test_parse_invalid_holder_returns_none(content):
    assert LockHolder.parse(content) is None


def test_holder_description_includes_the_map_index():
    assert "task 'task' [3] of DAG" in LockHolder("dag", "run", "task", 3).description


@pytest.mark.parametrize("map_index", [-1, 0, 3])
def test_holder_is_made_from_the_task_context(map_index):
    instance = SimpleNamespace(dag_id="dag", run_id="run", task_id="task", map_index=map_index, try_number=2)
    holder = LockHolder.from_context({"ti": instance})
    assert holder.instance == ("dag", "run", "task", map_index)
    assert holder.try_number == 2
    assert LockHolder.from_context({}).instance == ("unknown", "unknown", "unknown", -1)


@pytest.mark.parametrize(
    ("run_id", "phase", "is_kept"),
    [("run-1", Phase.DEFERRED, False), ("run-2", Phase.DEFERRED, True), ("run-1", Phase.RUNNING, True)],
)
def test_release_stale_removes_only_its_own_deferred_lock(path, run_id, phase, is_kept):
    replace_object(path, LockHolder("dag", run_id, "task", phase=phase).to_bytes())
    release_own_deferred_lock(path, LockHolder("dag", "run-1", "task"))
    assert (read_object(path) is not None) is is_kept


def test_release_stale_without_a_lock_does_nothing(path):
    release_own_deferred_lock(path, LockHolder("dag", "run-1", "task"))


SUSPENSION_SECONDS = 16.0


@pytest.mark.parametrize("clock", ["boot", "wall"])
def test_suspended_lease_is_not_held_before_a_check(path, system_clocks, clock):
    """A clock that stood still during a suspension does not keep a lease valid."""

    async def scenario():
        first, second = make_lease(path), make_lease(path, "run-2")
        await first.acquire()
        assert first.is_held()
        await second.acquire()  # while the first one is suspended
        first._last_heartbeat = (
            holder_module.SuspensionAwareTimer()
        )  # what its own clock, which stood still, would show
        system_clocks[clock] += SUSPENSION_SECONDS
        assert not first.is_held()
        heartbeat = asyncio.create_task(first.heartbeat())
        with pytest.raises(DestinationLockedError, match="run-2"):
            await first.ensure_held()
        assert first.is_lost
        assert not first.is_held()
        with pytest.raises(DestinationLockedError, match="run-2"):
            await heartbeat

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))
    assert LockHolder.parse(read_object(path)).run_id == "run-2"


@pytest.mark.parametrize("clock", ["boot", "wall"])
def test_suspended_lease_continues_without_a_takeover(path, system_clocks, clock):
    async def scenario():
        lease = make_lease(path)
        await lease.acquire()
        system_clocks[clock] += SUSPENSION_SECONDS
        assert not lease.is_held()
        heartbeat = asyncio.create_task(lease.heartbeat())
        async with asyncio.timeout(5):
            await lease.ensure_held()
        assert lease.is_held()
        heartbeat.cancel()

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))


def test_suspension_during_a_heartbeat_ends_the_lease(unconditional_path, system_clocks, monkeypatch):
    async def scenario():
        lease = make_lease(unconditional_path)
        await lease.acquire()
        replace_lock = lease._replace

        async def suspend(holder):
            system_clocks["wall"] += SUSPENSION_SECONDS
            await replace_lock(holder)

        monkeypatch.setattr(lease, "_replace", suspend)
        with pytest.raises(DestinationLockedError, match="took 16 seconds"):
            await lease.heartbeat()
        assert lease.is_lost

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))


def test_suspension_during_a_takeover_repeats_it(unconditional_path, system_clocks, monkeypatch, caplog):
    async def scenario():
        await make_lease(unconditional_path, "dead").acquire()
        lease = make_lease(unconditional_path)
        replace_lock, suspensions = lease._replace, [SUSPENSION_SECONDS]

        async def suspend(holder):
            system_clocks["wall"] += suspensions.pop() if suspensions else 0
            await replace_lock(holder)

        monkeypatch.setattr(lease, "_replace", suspend)
        await lease.acquire()
        assert lease.is_held()

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))
    assert "took too long to be safe" in caplog.text


@pytest.mark.parametrize("jump", [-1e6, -SUSPENSION_SECONDS])
def test_wall_clock_set_back_does_not_extend_the_lease(path, system_clocks, jump):
    async def scenario():
        lease = make_lease(path)
        await lease.acquire()
        system_clocks["wall"] += jump
        assert lease.is_held()
        await asyncio.sleep(0.6)
        assert not lease.is_held()

    run_in_simulated_time(asyncio.wait_for(scenario(), 20))


def test_lease_is_not_held_before_it_is_acquired(path):
    async def scenario():
        assert not make_lease(path).is_held()

    run_in_simulated_time(scenario())


class TestConditionalStorage:
    @pytest.mark.parametrize("earlier", [None, "dead", "own"])
    def test_acquire_does_not_wait_after_writing_the_lock(self, conditional_path, monkeypatch, earlier):
        async def scenario():
            if earlier:
                first = make_lease(conditional_path, "run-1" if earlier == "own" else "dead")
                await first.acquire()
                if earlier == "own":
                    await first.mark_deferred()

            async def fail(_):
                raise AssertionError("no confirmation is needed")

            monkeypatch.setattr(Lease, "_confirm_after_delay", fail)
            lease = make_lease(conditional_path)
            await lease.acquire()
            assert lease.is_held()

        run_in_simulated_time(asyncio.wait_for(scenario(), 20))

    def test_late_heartbeat_does_not_overwrite_another_lock(self, conditional_path, monkeypatch):
        async def scenario():
            first, second = make_lease(conditional_path), make_lease(conditional_path, "run-2")
            await first.acquire()
            delay_next_write(monkeypatch, first, 3)
            heartbeat = asyncio.create_task(first.heartbeat())
            await second.acquire()
            second_heartbeat = asyncio.create_task(second.heartbeat())
            with pytest.raises(DestinationLockedError, match="run-2"):
                await heartbeat
            assert first.is_lost
            await asyncio.sleep(1)
            assert second.is_held()
            second_heartbeat.cancel()

        run_in_simulated_time(asyncio.wait_for(scenario(), 20))

    def test_heartbeat_with_a_lost_response_is_recognized(self, conditional_path, monkeypatch, caplog):
        async def scenario():
            lease = make_lease(conditional_path)
            await lease.acquire()
            write, failures = lease._conditional_object.write, [AirflowException("connection reset")]

            def write_and_lose_response(content, version):
                written = write(content, version)
                if failures:
                    raise failures.pop()
                return written

            monkeypatch.setattr(lease._conditional_object, "write", write_and_lose_response)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await lease.heartbeat()
            assert lease.is_held()

        run_in_simulated_time(asyncio.wait_for(scenario(), 20))
        assert "failed, will retry: connection reset" in caplog.text

    def test_removed_conditional_lock_is_lost(self, conditional_path):
        async def scenario():
            lease = make_lease(conditional_path)
            await lease.acquire()
            remove_object(conditional_path)
            with pytest.raises(DestinationLockedError, match="its lock was removed"):
                await lease.heartbeat()

        run_in_simulated_time(asyncio.wait_for(scenario(), 20))
        assert read_object(conditional_path) is None

    def test_takeover_is_confirmed_if_only_creation_is_conditional(self, conditional_path, monkeypatch):
        monkeypatch.setattr(lease_module, "detect_enforced_conditions", lambda *_: EnforcedConditions(create=True))
        confirmed, confirm = [], Lease._confirm_after_delay

        async def record(lease):
            confirmed.append(lease._holder.run_id)
            await confirm(lease)

        monkeypatch.setattr(Lease, "_confirm_after_delay", record)

        async def scenario():
            await make_lease(conditional_path, "first").acquire()
            await make_lease(conditional_path, "second").acquire()

        run_in_simulated_time(asyncio.wait_for(scenario(), 20))
        assert confirmed == ["second"]


@pytest.mark.parametrize("end", ["release", "mark_deferred"])
def test_lease_is_not_held_once_its_lock_is_given_back(path, end):
    """A write that continues in its thread must not overwrite the results of the next batch."""

    async def main():
        lease = Lease(path, LockHolder("dag", "run", "task"), LOG)
        await lease.acquire()
        assert lease.is_held()
        assert await getattr(lease, end)()
        assert not lease.is_held()
        with pytest.raises(DestinationLockedError):
            await lease.ensure_held()

    asyncio.run(main())
