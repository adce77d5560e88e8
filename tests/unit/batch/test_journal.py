import asyncio
import json
import logging
import threading
import time
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowException, ObjectStoragePath

from airflow_provider_mps.batch import journal as module
from airflow_provider_mps.batch.journal import Journal
from airflow_provider_mps.batch.objects import list_objects
from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.errors import AudioTransferError, DestinationError

LOG = logging.getLogger("batch")


@pytest.fixture(params=["file", "memory"])
def folder(request, tmp_path):
    """A folder that can be appended to, and a store that cannot."""
    if request.param == "file":
        return ObjectStoragePath(f"file://{tmp_path}/journal")
    return ObjectStoragePath(f"memory://bucket{tmp_path}/journal")


def row(name, status=LineStatus.PROCESSING):
    return Row(name, 1, status, task_id=f"task-{name}")


def recalled(folder):
    return asyncio.run(Journal(folder, "later", LOG).recall())


def test_what_was_written_is_recalled_in_its_order(folder):
    async def write():
        journal = Journal(folder, "first", LOG)
        assert await journal.recall() == []
        for status in (LineStatus.SUBMITTING, LineStatus.PROCESSING, LineStatus.STORED):
            await journal.write(row("a", status))

    asyncio.run(write())
    assert [found.status for found in recalled(folder)] == ["submitting", "processing", "stored"]


def test_rows_that_come_at_once_go_together(folder, monkeypatch):
    writes = []
    append = Journal._write_part
    monkeypatch.setattr(Journal, "_write_part", lambda self, rows: (writes.append(rows), append(self, rows)))

    async def write():
        journal = Journal(folder, "first", LOG)
        await asyncio.gather(*(journal.write(row(f"{number}")) for number in range(50)))

    asyncio.run(write())
    assert len(writes) <= 2
    assert {found.id for found in recalled(folder)} == {f"{number}" for number in range(50)}


@pytest.fixture
def held_writes(monkeypatch):
    """Let each write begin, and end only when the test sets its event; return the events, by the rows of the write."""
    held: dict[str, threading.Event] = {}
    append = Journal._write_part

    def hold(self, rows):
        held[" ".join(json.loads(one)["id"] for one in rows.splitlines())] = event = threading.Event()
        assert event.wait(60)
        append(self, rows)

    monkeypatch.setattr(Journal, "_write_part", hold)
    return held


async def begun(held, names):
    async with asyncio.timeout(60):
        while names not in held:
            await asyncio.sleep(0.01)


def test_rows_share_the_next_write_and_do_not_wait_for_a_third(folder, held_writes):
    async def write():
        journal = Journal(folder, "first", LOG)
        first = asyncio.create_task(journal.write(row("a")))
        await begun(held_writes, "a")
        second, third = (asyncio.create_task(journal.write(row(name))) for name in "bc")
        await asyncio.sleep(0)
        held_writes["a"].set()
        await begun(held_writes, "b c")
        last = asyncio.create_task(journal.write(row("d")))
        await asyncio.sleep(0)
        held_writes["b c"].set()
        async with asyncio.timeout(60):
            await asyncio.gather(first, second, third)
        await begun(held_writes, "d")
        assert not last.done()
        held_writes["d"].set()
        await last

    asyncio.run(write())
    assert [found.id for found in recalled(folder)] == ["a", "b", "c", "d"]


def test_a_new_part_begins_after_the_write_under_way(folder, held_writes):
    async def write():
        journal = Journal(folder, "first", LOG)
        before = asyncio.create_task(journal.write(row("before")))
        await begun(held_writes, "before")
        beginning = asyncio.create_task(journal.next_part())
        done, _ = await asyncio.wait([beginning], timeout=0.2)
        assert not done
        held_writes["before"].set()
        await before
        await journal.forget_before(await beginning)

    asyncio.run(write())
    assert recalled(folder) == []


def test_settle_waits_for_rows_whose_callers_were_cancelled(folder, held_writes):
    async def write():
        journal = Journal(folder, "first", LOG)
        first = asyncio.create_task(journal.write(row("a")))
        await begun(held_writes, "a")
        second = asyncio.create_task(journal.write(row("b")))
        await asyncio.sleep(0)
        for writing in (first, second):
            writing.cancel()
        settling = asyncio.create_task(journal.settle())
        for names in ("a", "b"):
            await begun(held_writes, names)
            assert not settling.done()
            held_writes[names].set()
        await settling

    asyncio.run(write())
    assert [found.id for found in recalled(folder)] == ["a", "b"]


def test_each_writer_goes_on_behind_what_is_there_and_none_overwrites_another(folder):
    async def write(writer):
        journal = Journal(folder, writer, LOG)
        await journal.recall()
        await journal.write(row(writer))

    async def write_both():
        first, second = (Journal(folder, writer, LOG) for writer in ("one", "two"))
        await asyncio.gather(first.recall(), second.recall())  # neither knows of the other
        await asyncio.gather(first.write(row("one")), second.write(row("two")))

    asyncio.run(write_both())
    asyncio.run(write("three"))
    found = [found.id for found in recalled(folder)]
    assert set(found) == {"one", "two", "three"}
    assert found[-1] == "three"


def test_what_the_result_manifest_has_is_forgotten_and_what_came_later_is_not(folder):
    async def write():
        journal = Journal(folder, "first", LOG)
        await journal.write(row("before"))
        part = await journal.next_part()
        await journal.write(row("after"))
        await journal.forget_before(part)

    asyncio.run(write())
    assert [found.id for found in recalled(folder)] == ["after"]


def test_a_write_that_was_cut_off_is_left_out(tmp_path, caplog):
    folder = ObjectStoragePath(f"file://{tmp_path}/journal")

    async def write():
        await Journal(folder, "first", LOG).write(row("whole"))

    asyncio.run(write())
    (part,) = list_objects(folder)
    with Path(part.path).open("ab") as file:
        file.write(b'{"id": "cut o')
    assert [found.id for found in recalled(folder)] == ["whole"]
    assert "not written to its end" in caplog.text


def test_a_store_that_fails_is_tried_again_for_a_while(folder, monkeypatch, caplog):
    append, failures = Journal._write_part, [AudioTransferError("busy"), AudioTransferError("busy")]

    def flaky(self, rows):
        if failures:
            raise failures.pop()
        append(self, rows)

    monkeypatch.setattr(Journal, "_write_part", flaky)

    async def write():
        await Journal(folder, "first", LOG).write(row("a"))

    asyncio.run(write())
    assert [found.id for found in recalled(folder)] == ["a"]
    assert caplog.text.count("still trying: busy") == 2


@pytest.mark.parametrize("error", [AudioTransferError("full"), DestinationError("no permission")])
def test_a_store_that_goes_on_failing_stops_everybody_and_what_is_not_written_is_kept(folder, monkeypatch, error):
    monkeypatch.setattr(module, "PATIENCE", 0.3)

    def fail(*_):
        raise error

    monkeypatch.setattr(Journal, "_write_part", fail)

    async def write():
        journal = Journal(folder, "first", LOG)
        results = await asyncio.gather(journal.write(row("a")), journal.write(row("b")), return_exceptions=True)
        assert [str(result) for result in results] == [str(error)] * 2
        with pytest.raises(AirflowException):
            await journal.write(row("c"))
        return journal

    assert {lost.id for lost in asyncio.run(write()).unwritten} == {"a", "b", "c"}


def test_who_is_cancelled_takes_no_rows_of_others_with_him(folder, monkeypatch):
    append = Journal._write_part

    def slow(self, rows):
        time.sleep(0.3)
        append(self, rows)

    monkeypatch.setattr(Journal, "_write_part", slow)

    async def write():
        journal = Journal(folder, "first", LOG)
        first = asyncio.create_task(journal.write(row("a")))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(journal.write(row("b")))
        await asyncio.sleep(0.05)
        first.cancel()
        await second
        await journal.settle()

    asyncio.run(write())
    assert [found.id for found in recalled(folder)] == ["a", "b"]


def test_parts_that_were_not_read_are_not_removed_and_read_later(folder):
    async def write():
        suspended, journal = Journal(folder, "suspended", LOG), Journal(folder, "next", LOG)
        await suspended.recall()
        await suspended.write(row("read"))
        assert [found.id for found in await journal.recall()] == ["read"]
        await suspended.write(row("late"))
        await journal.write(row("own"))
        part = await journal.next_part()
        await journal.forget_before(part)
        assert [found.id for found in await journal.recall_late()] == ["late"]
        assert await journal.recall_late() == []
        await journal.forget_before(part)

    asyncio.run(write())
    assert recalled(folder) == []


def test_part_that_grows_while_it_is_removed_is_kept(tmp_path, monkeypatch):
    folder = ObjectStoragePath(f"file://{tmp_path}/journal")
    suspended, journal = Journal(folder, "suspended", LOG), Journal(folder, "next", LOG)
    lock = module._lock

    def grow(*arguments):
        monkeypatch.setattr(module, "_lock", lock)
        suspended._write_part(json.dumps(row("late").to_json()).encode() + b"\n")
        lock(*arguments)

    async def write():
        await suspended.write(row("read"))
        await journal.recall()
        monkeypatch.setattr(module, "_lock", grow)
        await journal.forget_before(await journal.next_part())
        return await journal.recall_late()

    assert [found.id for found in asyncio.run(write())] == ["late"]


def test_write_to_a_part_that_is_removed_at_this_moment_is_repeated(tmp_path, monkeypatch):
    folder = ObjectStoragePath(f"file://{tmp_path}/journal")
    suspended, journal = Journal(folder, "suspended", LOG), Journal(folder, "next", LOG)
    lock = module._lock

    async def write():
        await suspended.write(row("read"))
        await journal.recall()

        def remove_first(*arguments):
            monkeypatch.setattr(module, "_lock", lock)
            journal._remove(journal._parts()[0])
            lock(*arguments)

        monkeypatch.setattr(module, "_lock", remove_first)
        await suspended.write(row("late"))

    asyncio.run(write())
    assert [found.id for found in recalled(folder)] == ["late"]


def test_part_that_is_being_written_to_is_not_removed(tmp_path):
    folder = ObjectStoragePath(f"file://{tmp_path}/journal")

    async def write():
        await Journal(folder, "suspended", LOG).write(row("read"))
        journal = Journal(folder, "next", LOG)
        await journal.recall()
        (part,) = list_objects(folder)
        with Path(part.path).open("ab") as file:  # noqa: ASYNC230
            module._lock(file.fileno())
            await journal.forget_before(await journal.next_part())

    asyncio.run(write())
    assert [found.id for found in recalled(folder)] == ["read"]


def append(part, content):
    with Path(part.path).open("ab") as file:
        file.write(content)


def test_a_torn_line_is_read_again_when_it_is_whole_and_does_not_keep_its_part(tmp_path, caplog):
    folder = ObjectStoragePath(f"file://{tmp_path}/journal")
    line = json.dumps(row("late").to_json()).encode() + b"\n"

    async def write():
        await Journal(folder, "suspended", LOG).write(row("read"))
        (part,) = list_objects(folder)
        append(part, line[:20])
        journal = Journal(folder, "next", LOG)
        assert [found.id for found in await journal.recall()] == ["read"]
        append(part, line[20:])
        assert [found.id for found in await journal.recall_late()] == ["late"]
        append(part, line[:20])
        assert await journal.recall_late() == []
        await journal.forget_before(await journal.next_part())

    asyncio.run(write())
    assert list_objects(folder) == []


def test_where_nothing_may_be_removed_any_more_nothing_is(folder):
    async def write():
        journal = Journal(folder, "first", LOG)
        await journal.write(row("a"))

        def require_lease():
            raise AirflowException("taken")

        with pytest.raises(AirflowException, match="taken"):
            await journal.forget_before(await journal.next_part(), require_lease)

    asyncio.run(write())
    assert [found.id for found in recalled(folder)] == ["a"]
