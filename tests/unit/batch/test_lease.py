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

from airflow_provider_mps.batch import clocks
from airflow_provider_mps.batch import lease as module
from airflow_provider_mps.batch.lease import DestinationTakenError, Holder, Lease, Phase, let_go
from airflow_provider_mps.batch.objects import read_object, remove_object, replace_object
from airflow_provider_mps.conditional_write import ConditionalObject, ConditionFailedError, Enforced
from tests.simulated_time import run_in_simulated_time

LOG = logging.getLogger("batch")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, seconds in (("BEAT", 0.1), ("VALID", 0.5), ("DEAD", 0.8), ("SETTLED", 0.2)):
        monkeypatch.setattr(module, name, seconds)


@pytest.fixture(autouse=True)
def system_clocks(monkeypatch):
    """Two clocks that count what a test lets pass, beside the simulated one of the event loop."""
    seconds = {"boot": 0.0, "wall": 1.7e9}
    readers = tuple(lambda name=name: seconds[name] for name in seconds)
    monkeypatch.setattr(clocks, "SYSTEM_CLOCKS", readers)
    return seconds


class InMemory(ConditionalObject):
    """An object of the memory filesystem, whose versions are compared."""

    other_version = "another"
    lock = threading.Lock()

    def read(self):
        content = read_object(self._path)
        return None if content is None else (content, hashlib.md5(content).hexdigest())

    def write(self, content, version):
        with self.lock:
            now = self.read()
            if (now[1] if now else None) != version:
                raise ConditionFailedError("changed")
            replace_object(self._path, content)
            return hashlib.md5(content).hexdigest()

    async def _read(self):
        raise NotImplementedError

    async def _write(self, content, version):
        raise NotImplementedError


def place(kind, tmp_path, monkeypatch):
    if kind == "conditional":
        monkeypatch.setattr(module, "conditional_object", lambda path: InMemory(None, path))
    scheme = "file" if kind == "file" else "memory"
    return ObjectStoragePath(f"{scheme}://{tmp_path}/clips/.mps-batch/lock.json")


@pytest.fixture(params=["file", "memory", "conditional"])
def path(request, tmp_path, monkeypatch):
    return place(request.param, tmp_path, monkeypatch)


@pytest.fixture(params=["file", "memory"])
def unconditional_path(request, tmp_path, monkeypatch):
    """Where a lock is written, waited for and looked at."""
    return place(request.param, tmp_path, monkeypatch)


@pytest.fixture
def conditional_path(tmp_path, monkeypatch):
    """Where a lock is replaced only as it is known."""
    return place("conditional", tmp_path, monkeypatch)


def lease(path, run_id="run-1", try_number=1):
    return Lease(path, Holder("dag", run_id, "task", -1, try_number), LOG)


def test_the_first_one_has_it_at_once_and_the_next_one_when_it_is_released(path):
    async def both():
        first = lease(path)
        await first.take()
        await first.held()
        await first.release()
        await lease(path, "run-2").take()

    run_in_simulated_time(asyncio.wait_for(both(), 20))


def test_one_that_is_released_while_the_next_one_watches_is_had_by_that_at_once(path):
    async def both():
        first, second = lease(path), lease(path, "run-2")
        await first.take()
        taking = asyncio.create_task(second.take())
        await asyncio.sleep(0.3)
        await first.release()
        await taking
        await second.held()

    run_in_simulated_time(asyncio.wait_for(both(), 20))


def test_one_that_lives_is_not_taken_over_in_a_store_that_overwrites_what_was_to_be_created(path, monkeypatch):
    def overwrite(path, content):
        replace_object(path, content)
        return True

    monkeypatch.setattr(module, "create_object", overwrite)

    async def both():
        first = lease(path)
        await first.take()
        keeping = asyncio.create_task(first.keep())
        with pytest.raises(DestinationTakenError, match="run-1"):
            await lease(path, "run-2").take()
        keeping.cancel()
        await first.park()
        with pytest.raises(DestinationTakenError, match="run-1"):
            await lease(path, "run-2").take()

    run_in_simulated_time(asyncio.wait_for(both(), 20))


def test_who_comes_between_the_look_and_the_creating_is_seen(path, monkeypatch):
    def too_late(path, _):
        replace_object(path, Holder("dag", "run-1", "task", phase=Phase.DEFERRED).to_bytes())
        return False

    monkeypatch.setattr(module, "create_object", too_late)
    with pytest.raises(DestinationTakenError, match="run-1"):
        run_in_simulated_time(asyncio.wait_for(lease(path, "run-2").take(), 20))


@pytest.mark.parametrize("end", [Lease.park, Lease.release])
def test_a_sign_of_life_that_is_still_on_its_way_does_not_undo_the_end(unconditional_path, monkeypatch, end):
    started, may_write, written = threading.Event(), threading.Event(), threading.Event()

    def slow(unconditional_path, content):
        started.set()
        assert may_write.wait(60)
        replace_object(unconditional_path, content)
        written.set()

    async def alone():
        first = lease(unconditional_path)
        await first.take()
        with monkeypatch.context() as patched:
            patched.setattr(module, "replace_object", slow)
            keeping = asyncio.create_task(first.keep())
            await asyncio.to_thread(started.wait, 60)
            keeping.cancel()
            await asyncio.wait([keeping])
        read_now = first._read

        async def read():
            assert written.is_set()
            return await read_now()

        monkeypatch.setattr(first, "_read", read)
        ending = asyncio.create_task(end(first))
        await asyncio.sleep(0)  # until it waits for the heartbeat
        may_write.set()
        await ending

    run_in_simulated_time(asyncio.wait_for(alone(), 20))
    left = read_object(unconditional_path)
    assert left is None if end is Lease.release else Holder.parse(left).phase is Phase.DEFERRED


def test_a_sign_of_life_that_cannot_be_written_is_tried_again(path, monkeypatch, caplog):
    async def alone():
        mine = lease(path)
        await mine.take()
        replace_now, failures = mine._replace, [AirflowException("the store is away")]

        async def write(holder):
            if failures:
                raise failures.pop()
            await replace_now(holder)

        monkeypatch.setattr(mine, "_replace", write)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await mine.keep()
        await mine.held()

    run_in_simulated_time(asyncio.wait_for(alone(), 20))
    assert "still trying: the store is away" in caplog.text


def test_what_a_holder_writes_is_read_whole():
    holder = Holder("dag", "run", "task", 3, 2, 1, beat=4, phase=Phase.DEFERRED)
    assert Holder.parse(holder.to_bytes()) == holder


def test_a_second_one_is_refused_and_told_who_has_it(path):
    async def both():
        first = lease(path)
        await first.take()
        keeping = asyncio.create_task(first.keep())
        with pytest.raises(
            DestinationTakenError, match=r"task 'task' of DAG 'dag', run 'run-1' \(try 1, running since"
        ):
            await lease(path, "run-2").take()
        keeping.cancel()

    run_in_simulated_time(asyncio.wait_for(both(), 20))


def test_even_another_try_of_the_same_task_waits_until_the_first_is_dead(path):
    async def both():
        first = lease(path)
        await first.take()
        keeping = asyncio.create_task(first.keep())
        with pytest.raises(DestinationTakenError):
            await lease(path, try_number=2).take()
        keeping.cancel()

    run_in_simulated_time(asyncio.wait_for(both(), 20))


def test_of_who_has_died_it_is_taken_over(path, caplog):
    async def both():
        await lease(path).take()
        await lease(path, "run-2").take()

    run_in_simulated_time(asyncio.wait_for(both(), 20))
    assert "gives no sign of life" in caplog.text


@pytest.mark.parametrize("left_behind", [False, True])
def test_of_those_who_come_at_once_one_gets_it(path, left_behind):
    async def work(run_id):
        mine = lease(path, run_id)
        await mine.take()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await mine.keep()
        return run_id

    async def all_of_them():
        if left_behind:
            await lease(path, "dead").take()
        return await asyncio.gather(*(work(f"run-{number}") for number in range(4)), return_exceptions=True)

    results = run_in_simulated_time(asyncio.wait_for(all_of_them(), 30))
    assert sum(isinstance(result, str) for result in results) == 1
    assert sum(isinstance(result, DestinationTakenError) for result in results) == 3


def test_who_is_in_the_triggerer_keeps_it_without_signs_of_life_for_its_own_task(path):
    async def both():
        first = lease(path)
        await first.take()
        await first.park()
        with pytest.raises(DestinationTakenError, match="deferred since"):
            await lease(path, "run-2").take()
        await lease(path, try_number=1).take()

    run_in_simulated_time(asyncio.wait_for(both(), 20))


def test_who_has_lost_it_is_told_and_may_not_write(path):
    async def both():
        first = lease(path)
        await first.take()
        replace_object(path, Holder("dag", "run-2", "task").to_bytes())
        with pytest.raises(DestinationTakenError, match="run-2"):
            await first.keep()
        assert first.lost
        with pytest.raises(DestinationTakenError, match="run-2"):
            await first.held()
        await first.release()

    run_in_simulated_time(asyncio.wait_for(both(), 20))
    assert Holder.parse(read_object(path)).run_id == "run-2"


def late(monkeypatch, mine, seconds):
    """Let the next writing of a lease reach the store so much later."""
    replace_now, waits = mine._replace, [seconds]

    async def write(holder):
        await asyncio.sleep(waits.pop() if waits else 0)
        await replace_now(holder)

    monkeypatch.setattr(mine, "_replace", write)


def test_a_sign_of_life_that_comes_so_late_that_another_may_have_taken_over_ends_the_work(
    unconditional_path, monkeypatch
):
    async def both():
        first, second = lease(unconditional_path), lease(unconditional_path, "run-2")
        await first.take()
        late(monkeypatch, first, 3)
        keeping = asyncio.create_task(first.keep())
        await second.take()
        with pytest.raises(TimeoutError):  # meanwhile nothing is submitted
            async with asyncio.timeout(0.2):
                await first.held()
        with pytest.raises(DestinationTakenError, match=r"took 3 seconds to be written.*a retry goes on"):
            await keeping
        assert first.lost
        with pytest.raises(DestinationTakenError):  # of which the sign was overwritten
            await second.keep()

    run_in_simulated_time(asyncio.wait_for(both(), 20))


def test_after_a_store_was_away_nobody_goes_on_before_it_is_sure_that_nobody_else_does(path, monkeypatch):
    async def both():
        first, second = lease(path), lease(path, "run-2")
        await first.take()
        await asyncio.sleep(1)  # as if no sign of life could be written
        taking = asyncio.create_task(second.take())
        await asyncio.sleep(0.3)
        keeping = asyncio.create_task(first.keep())
        with pytest.raises(DestinationTakenError, match="run-1"):
            await taking
        async with asyncio.timeout(5):
            await first.held()
        keeping.cancel()

    run_in_simulated_time(asyncio.wait_for(both(), 20))


def test_who_takes_over_too_slowly_to_be_seen_does_it_once_more(unconditional_path, monkeypatch, caplog):
    async def both():
        await lease(unconditional_path).take()
        slow = lease(unconditional_path, "run-2")
        late(monkeypatch, slow, 0.5)
        await slow.take()
        await slow.held()

    run_in_simulated_time(asyncio.wait_for(both(), 20))
    assert "was written too slowly" in caplog.text


@pytest.mark.parametrize("seconds", [0.1, 0.4])
def test_two_who_take_over_at_once_never_work_at_once_however_slow_one_is(path, monkeypatch, seconds):
    worked = []

    async def work(mine):
        clock = asyncio.get_running_loop().time
        await mine.take()
        since = clock()
        with suppress(DestinationTakenError, TimeoutError):
            async with asyncio.timeout(2):
                await mine.keep()
        worked.append((since, clock()))

    async def all_of_them():
        await lease(path, "dead").take()
        quick, slow = lease(path, "quick"), lease(path, "slow")
        late(monkeypatch, slow, seconds)
        await asyncio.gather(work(quick), work(slow), return_exceptions=True)

    run_in_simulated_time(asyncio.wait_for(all_of_them(), 30))
    assert worked
    worked.sort()
    assert all(ended <= began for (_, ended), (began, _) in pairwise(worked))


def test_a_store_that_is_always_too_slow_is_told(unconditional_path, monkeypatch):
    monkeypatch.setattr(module, "SETTLED", -1)
    replace_object(unconditional_path, Holder("dag", "run-1", "task", phase=Phase.DEFERRED).to_bytes())
    with pytest.raises(AirflowException, match=r"could not be written within .* nothing was submitted"):
        run_in_simulated_time(lease(unconditional_path).take())


def test_a_lock_that_was_removed_is_lost_too(path):
    async def both():
        first = lease(path)
        await first.take()
        await first.release()
        with pytest.raises(DestinationTakenError, match="somebody who has removed"):
            await first.keep()

    run_in_simulated_time(asyncio.wait_for(both(), 20))


def test_without_a_recent_sign_of_life_it_is_not_certain_and_waited_for(path):
    async def alone():
        first = lease(path)
        await first.take()
        await asyncio.sleep(0.7)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await first.held()
        keeping = asyncio.create_task(first.keep())
        async with asyncio.timeout(5):
            await first.held()
        keeping.cancel()

    run_in_simulated_time(asyncio.wait_for(alone(), 20))


def test_a_lock_that_cannot_be_read_is_one_of_who_does_not_change_it(path):
    async def alone():
        replace_object(path, b"{broken")
        await lease(path).take()

    run_in_simulated_time(asyncio.wait_for(alone(), 20))


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"{}", b"null", b'{"phase": "asleep"}', b"[" * 100_000),
        json.dumps({**asdict(Holder("dag", "run", "task")), "map_index": "one"}).encode(),
        json.dumps({**asdict(Holder("dag", "run", "task")), "token": None}).replace('"token": null, ', "").encode(),
    ],
)
def test_what_is_no_holder_is_none(content):
    assert Holder.parse(content) is None


def test_a_holder_is_told_with_its_index_where_it_is_mapped():
    assert "task 'task' [3] of DAG" in Holder("dag", "run", "task", 3).told


@pytest.mark.parametrize("map_index", [-1, 0, 3])
def test_a_holder_is_the_task_instance_of_its_context(map_index):
    instance = SimpleNamespace(dag_id="dag", run_id="run", task_id="task", map_index=map_index, try_number=2)
    holder = Holder.of({"ti": instance})
    assert holder.instance == ("dag", "run", "task", map_index)
    assert holder.try_number == 2
    assert Holder.of({}).instance == ("unknown", "unknown", "unknown", -1)


@pytest.mark.parametrize(
    ("run_id", "phase", "left"),
    [("run-1", Phase.DEFERRED, False), ("run-2", Phase.DEFERRED, True), ("run-1", Phase.RUNNING, True)],
)
def test_only_ones_own_place_in_the_triggerer_is_let_go(path, run_id, phase, left):
    replace_object(path, Holder("dag", run_id, "task", phase=phase).to_bytes())
    let_go(path, Holder("dag", "run-1", "task"))
    assert (read_object(path) is not None) is left


def test_letting_go_of_nothing_is_nothing(path):
    let_go(path, Holder("dag", "run-1", "task"))


SUSPENDED = 16.0


@pytest.mark.parametrize("clock", ["boot", "wall"])
def test_suspended_holder_is_not_held_before_it_has_looked(path, system_clocks, clock):
    """A machine that was frozen sends nothing on the word of a clock that stood still."""

    async def both():
        first, second = lease(path), lease(path, "run-2")
        await first.take()
        assert first.is_held()
        await second.take()  # meanwhile the first one is frozen
        first._last_beat = clocks.Moment()  # as its own clock, which stood still, has it
        system_clocks[clock] += SUSPENDED
        assert not first.is_held()
        keeping = asyncio.create_task(first.keep())
        with pytest.raises(DestinationTakenError, match="run-2"):
            await first.held()
        assert first.lost
        assert not first.is_held()
        with pytest.raises(DestinationTakenError, match="run-2"):
            await keeping

    run_in_simulated_time(asyncio.wait_for(both(), 20))
    assert Holder.parse(read_object(path)).run_id == "run-2"


@pytest.mark.parametrize("clock", ["boot", "wall"])
def test_suspended_holder_continues_if_no_other_came(path, system_clocks, clock):
    async def alone():
        mine = lease(path)
        await mine.take()
        system_clocks[clock] += SUSPENDED
        assert not mine.is_held()
        keeping = asyncio.create_task(mine.keep())
        async with asyncio.timeout(5):
            await mine.held()
        assert mine.is_held()
        keeping.cancel()

    run_in_simulated_time(asyncio.wait_for(alone(), 20))


def test_suspension_within_a_heartbeat_ends_the_work(unconditional_path, system_clocks, monkeypatch):
    async def alone():
        mine = lease(unconditional_path)
        await mine.take()
        replace_now = mine._replace

        async def freeze(holder):
            system_clocks["wall"] += SUSPENDED
            await replace_now(holder)

        monkeypatch.setattr(mine, "_replace", freeze)
        with pytest.raises(DestinationTakenError, match="took 16 seconds"):
            await mine.keep()
        assert mine.lost

    run_in_simulated_time(asyncio.wait_for(alone(), 20))


def test_suspension_within_a_takeover_repeats_it(unconditional_path, system_clocks, monkeypatch, caplog):
    async def both():
        await lease(unconditional_path, "dead").take()
        mine = lease(unconditional_path)
        replace_now, frozen = mine._replace, [SUSPENDED]

        async def freeze(holder):
            system_clocks["wall"] += frozen.pop() if frozen else 0
            await replace_now(holder)

        monkeypatch.setattr(mine, "_replace", freeze)
        await mine.take()
        assert mine.is_held()

    run_in_simulated_time(asyncio.wait_for(both(), 20))
    assert "was written too slowly" in caplog.text


@pytest.mark.parametrize("jump", [-1e6, -SUSPENDED])
def test_wall_clock_set_back_does_not_extend_the_lease(path, system_clocks, jump):
    async def alone():
        mine = lease(path)
        await mine.take()
        system_clocks["wall"] += jump
        assert mine.is_held()
        await asyncio.sleep(0.6)
        assert not mine.is_held()

    run_in_simulated_time(asyncio.wait_for(alone(), 20))


def test_lease_is_not_held_before_it_is_taken(path):
    async def alone():
        assert not lease(path).is_held()

    run_in_simulated_time(alone())


class TestWhereConditionsAreEnforced:
    @pytest.mark.parametrize("left_behind", [None, "dead", "own"])
    def test_nothing_is_waited_for_after_the_lock_is_written(self, conditional_path, monkeypatch, left_behind):
        async def both():
            if left_behind:
                first = lease(conditional_path, "run-1" if left_behind == "own" else "dead")
                await first.take()
                if left_behind == "own":
                    await first.park()

            async def settle(_):
                raise AssertionError("the storage is taken at its word")

            monkeypatch.setattr(Lease, "_settle", settle)
            mine = lease(conditional_path)
            await mine.take()
            assert mine.is_held()

        run_in_simulated_time(asyncio.wait_for(both(), 20))

    def test_late_heartbeat_does_not_overwrite_the_lock_of_another(self, conditional_path, monkeypatch):
        async def both():
            first, second = lease(conditional_path), lease(conditional_path, "run-2")
            await first.take()
            late(monkeypatch, first, 3)
            keeping = asyncio.create_task(first.keep())
            await second.take()
            second_keeps = asyncio.create_task(second.keep())
            with pytest.raises(DestinationTakenError, match="run-2"):
                await keeping
            assert first.lost
            await asyncio.sleep(1)
            assert second.is_held()
            second_keeps.cancel()

        run_in_simulated_time(asyncio.wait_for(both(), 20))

    def test_heartbeat_whose_response_was_lost_is_recognised(self, conditional_path, monkeypatch, caplog):
        async def alone():
            mine = lease(conditional_path)
            await mine.take()
            write, lost = mine._object.write, [True]

            def write_and_lose(content, version):
                written = write(content, version)
                if lost:
                    lost.pop()
                    raise AirflowException("connection reset")
                return written

            monkeypatch.setattr(mine._object, "write", write_and_lose)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await mine.keep()
            assert mine.is_held()

        run_in_simulated_time(asyncio.wait_for(alone(), 20))
        assert "still trying: connection reset" in caplog.text

    def test_lock_that_was_removed_is_lost(self, conditional_path):
        async def alone():
            mine = lease(conditional_path)
            await mine.take()
            remove_object(conditional_path)
            with pytest.raises(DestinationTakenError, match="removed"):
                await mine.keep()

        run_in_simulated_time(asyncio.wait_for(alone(), 20))
        assert read_object(conditional_path) is None

    def test_storage_that_enforces_only_creation_is_looked_at_after_a_takeover(self, conditional_path, monkeypatch):
        monkeypatch.setattr(module, "enforced_conditions", lambda *_: Enforced(create=True))
        settled, settle = [], Lease._settle

        async def listen(mine):
            settled.append(mine._mine.run_id)
            await settle(mine)

        monkeypatch.setattr(Lease, "_settle", listen)

        async def both():
            await lease(conditional_path, "first").take()
            await lease(conditional_path, "second").take()

        run_in_simulated_time(asyncio.wait_for(both(), 20))
        assert settled == ["second"]
