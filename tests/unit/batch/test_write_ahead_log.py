import asyncio
import json
import logging
import re
import threading
import time
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowException, ObjectStoragePath

from airflow_provider_mps.batch import group_commit
from airflow_provider_mps.batch import write_ahead_log as module
from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.write_ahead_log import WriteAheadLog
from airflow_provider_mps.exceptions import AudioTransferError, DestinationError
from airflow_provider_mps.storage.objects import list_objects

LOG = logging.getLogger("batch")


@pytest.fixture(params=["file", "memory"])
def folder(request, tmp_path):
    """Return a folder on a disk, which can append, or in object storage, which cannot."""
    if request.param == "file":
        return ObjectStoragePath(f"file://{tmp_path}/journal")
    return ObjectStoragePath(f"memory://bucket{tmp_path}/journal")


def row(name, status=LineStatus.PROCESSING):
    return Row(name, 1, status, task_id=f"task-{name}")


def read_rows(folder):
    return asyncio.run(WriteAheadLog(folder, "later", LOG).read())


def test_rows_are_read_in_the_order_of_their_writes(folder):
    async def write():
        wal = WriteAheadLog(folder, "first", LOG)
        assert await wal.read() == []
        for status in (LineStatus.SUBMITTING, LineStatus.PROCESSING, LineStatus.STORED):
            await wal.write(row("a", status))

    asyncio.run(write())
    assert [found.status for found in read_rows(folder)] == ["submitting", "processing", "stored"]


def test_simultaneous_rows_share_a_write(folder, monkeypatch):
    writes = []
    append = WriteAheadLog._write_rows
    monkeypatch.setattr(WriteAheadLog, "_write_rows", lambda self, rows: (writes.append(rows), append(self, rows)))

    async def write():
        wal = WriteAheadLog(folder, "first", LOG)
        await asyncio.gather(*(wal.write(row(f"{number}")) for number in range(50)))

    asyncio.run(write())
    assert len(writes) <= 2
    assert {found.id for found in read_rows(folder)} == {f"{number}" for number in range(50)}


@pytest.fixture
def held_writes(monkeypatch):
    """Block each write until the test sets its event; return the events by the ids of their rows."""
    held: dict[str, threading.Event] = {}
    append = WriteAheadLog._write_rows

    def hold(self, rows):
        held[" ".join(json.loads(one)["id"] for one in rows.splitlines())] = event = threading.Event()
        assert event.wait(60)
        append(self, rows)

    monkeypatch.setattr(WriteAheadLog, "_write_rows", hold)
    return held


async def wait_for_write(held, names):
    async with asyncio.timeout(60):
        while names not in held:
            await asyncio.sleep(0.01)


def test_rows_during_a_write_share_the_next_one(folder, held_writes):
    async def write():
        wal = WriteAheadLog(folder, "first", LOG)
        first = asyncio.create_task(wal.write(row("a")))
        await wait_for_write(held_writes, "a")
        second, third = (asyncio.create_task(wal.write(row(name))) for name in "bc")
        await asyncio.sleep(0)
        held_writes["a"].set()
        await wait_for_write(held_writes, "b c")
        last = asyncio.create_task(wal.write(row("d")))
        await asyncio.sleep(0)
        held_writes["b c"].set()
        async with asyncio.timeout(60):
            await asyncio.gather(first, second, third)
        await wait_for_write(held_writes, "d")
        assert not last.done()
        held_writes["d"].set()
        await last

    asyncio.run(write())
    assert [found.id for found in read_rows(folder)] == ["a", "b", "c", "d"]


def test_new_part_starts_after_the_current_write(folder, held_writes):
    async def write():
        wal = WriteAheadLog(folder, "first", LOG)
        before = asyncio.create_task(wal.write(row("before")))
        await wait_for_write(held_writes, "before")
        beginning = asyncio.create_task(wal.make_checkpoint())
        done, _ = await asyncio.wait([beginning], timeout=0.2)
        assert not done
        held_writes["before"].set()
        await before
        await wal.remove_parts(await beginning)

    asyncio.run(write())
    assert read_rows(folder) == []


def test_flush_waits_for_rows_of_cancelled_callers(folder, held_writes):
    async def write():
        wal = WriteAheadLog(folder, "first", LOG)
        first = asyncio.create_task(wal.write(row("a")))
        await wait_for_write(held_writes, "a")
        second = asyncio.create_task(wal.write(row("b")))
        await asyncio.sleep(0)
        for writing in (first, second):
            writing.cancel()
        flushing = asyncio.create_task(wal.flush())
        for names in ("a", "b"):
            await wait_for_write(held_writes, names)
            assert not flushing.done()
            held_writes[names].set()
        await flushing

    asyncio.run(write())
    assert [found.id for found in read_rows(folder)] == ["a", "b"]


def test_writers_append_and_do_not_overwrite_each_other(folder):
    async def write(writer):
        wal = WriteAheadLog(folder, writer, LOG)
        await wal.read()
        await wal.write(row(writer))

    async def write_both():
        first, second = (WriteAheadLog(folder, writer, LOG) for writer in ("one", "two"))
        await asyncio.gather(first.read(), second.read())
        await asyncio.gather(first.write(row("one")), second.write(row("two")))

    asyncio.run(write_both())
    asyncio.run(write("three"))
    found = [found.id for found in read_rows(folder)]
    assert set(found) == {"one", "two", "three"}
    assert found[-1] == "three"


def test_remove_parts_keeps_later_rows(folder):
    async def write():
        wal = WriteAheadLog(folder, "first", LOG)
        await wal.write(row("before"))
        part = await wal.make_checkpoint()
        await wal.write(row("after"))
        await wal.remove_parts(part)

    asyncio.run(write())
    assert [found.id for found in read_rows(folder)] == ["after"]


def test_incomplete_line_is_ignored(tmp_path, caplog):
    folder = ObjectStoragePath(f"file://{tmp_path}/journal")

    async def write():
        await WriteAheadLog(folder, "first", LOG).write(row("whole"))

    asyncio.run(write())
    (part,) = list_objects(folder)
    with Path(part.path).open("ab") as file:
        file.write(b'{"id": "cut o')
    assert [found.id for found in read_rows(folder)] == ["whole"]
    assert "Ignored an incomplete line of" in caplog.text


def test_failed_write_is_retried(folder, monkeypatch, caplog):
    append, failures = WriteAheadLog._write_rows, [AudioTransferError("busy"), AudioTransferError("busy")]

    def flaky(self, rows):
        if failures:
            raise failures.pop()
        append(self, rows)

    monkeypatch.setattr(WriteAheadLog, "_write_rows", flaky)

    async def write():
        await WriteAheadLog(folder, "first", LOG).write(row("a"))

    asyncio.run(write())
    assert [found.id for found in read_rows(folder)] == ["a"]
    assert len(re.findall(r"Writing the batch state failed, will retry in [\d.]+ s: busy", caplog.text)) == 2


@pytest.mark.parametrize("error", [AudioTransferError("timeout"), DestinationError("no permission")])
def test_lasting_failure_stops_all_writes_and_keeps_unwritten_rows(folder, monkeypatch, error):
    monkeypatch.setattr(group_commit, "OUTAGE_TIMEOUT_SECONDS", 0.3)

    def fail(*_):
        raise error

    monkeypatch.setattr(WriteAheadLog, "_write_rows", fail)

    async def write():
        wal = WriteAheadLog(folder, "first", LOG)
        results = await asyncio.gather(wal.write(row("a")), wal.write(row("b")), return_exceptions=True)
        assert [str(result) for result in results] == [str(error)] * 2
        with pytest.raises(AirflowException):
            await wal.write(row("c"))
        return wal

    assert {lost.id for lost in asyncio.run(write()).unwritten} == {"a", "b", "c"}


def test_cancelled_caller_does_not_cancel_rows_of_others(folder, monkeypatch):
    append = WriteAheadLog._write_rows

    def slow(self, rows):
        time.sleep(0.3)
        append(self, rows)

    monkeypatch.setattr(WriteAheadLog, "_write_rows", slow)

    async def write():
        wal = WriteAheadLog(folder, "first", LOG)
        first = asyncio.create_task(wal.write(row("a")))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(wal.write(row("b")))
        await asyncio.sleep(0.05)
        first.cancel()
        await second
        await wal.flush()

    asyncio.run(write())
    assert [found.id for found in read_rows(folder)] == ["a", "b"]


def test_failed_row_of_a_cancelled_caller_is_kept_as_unwritten(folder, monkeypatch):
    def fail_late(*_):
        time.sleep(0.3)
        raise DestinationError("no permission")

    monkeypatch.setattr(WriteAheadLog, "_write_rows", fail_late)

    async def write():
        wal = WriteAheadLog(folder, "first", LOG)
        writing = asyncio.create_task(wal.write(row("a")))
        await asyncio.sleep(0.05)
        writing.cancel()
        await wal.flush()
        return wal.unwritten

    assert [lost.id for lost in asyncio.run(write())] == ["a"]


def test_unread_parts_are_kept_and_read_later(folder):
    async def write():
        suspended, wal = WriteAheadLog(folder, "suspended", LOG), WriteAheadLog(folder, "next", LOG)
        await suspended.read()
        await suspended.write(row("read"))
        assert [found.id for found in await wal.read()] == ["read"]
        await suspended.write(row("late"))
        await wal.write(row("own"))
        await wal.remove_parts(await wal.make_checkpoint())
        assert [found.id for found in await wal.read_late_rows()] == ["late"]
        assert await wal.read_late_rows() == []
        await wal.remove_parts(await wal.make_checkpoint())

    asyncio.run(write())
    assert read_rows(folder) == []


def test_part_that_grows_during_its_removal_is_kept(tmp_path, monkeypatch):
    folder = ObjectStoragePath(f"file://{tmp_path}/journal")
    suspended, wal = WriteAheadLog(folder, "suspended", LOG), WriteAheadLog(folder, "next", LOG)
    lock = module._lock

    def grow(*arguments):
        monkeypatch.setattr(module, "_lock", lock)
        suspended._write_rows(json.dumps(row("late").to_json()).encode() + b"\n")
        lock(*arguments)

    async def write():
        await suspended.write(row("read"))
        await wal.read()
        monkeypatch.setattr(module, "_lock", grow)
        await wal.remove_parts(await wal.make_checkpoint())
        return await wal.read_late_rows()

    assert [found.id for found in asyncio.run(write())] == ["late"]


def test_write_to_a_part_being_removed_is_retried(tmp_path, monkeypatch):
    folder = ObjectStoragePath(f"file://{tmp_path}/journal")
    suspended, wal = WriteAheadLog(folder, "suspended", LOG), WriteAheadLog(folder, "next", LOG)
    lock = module._lock

    async def write():
        await suspended.write(row("read"))
        await wal.read()

        def remove_first(*arguments):
            monkeypatch.setattr(module, "_lock", lock)
            wal._remove_part(wal._list_parts()[0])
            lock(*arguments)

        monkeypatch.setattr(module, "_lock", remove_first)
        await suspended.write(row("late"))

    asyncio.run(write())
    assert [found.id for found in read_rows(folder)] == ["late"]


def test_part_with_a_write_in_progress_is_not_removed(tmp_path):
    folder = ObjectStoragePath(f"file://{tmp_path}/journal")

    async def write():
        await WriteAheadLog(folder, "suspended", LOG).write(row("read"))
        wal = WriteAheadLog(folder, "next", LOG)
        await wal.read()
        (part,) = list_objects(folder)
        with Path(part.path).open("ab") as file:  # noqa: ASYNC230
            module._lock(file.fileno())
            await wal.remove_parts(await wal.make_checkpoint())

    asyncio.run(write())
    assert [found.id for found in read_rows(folder)] == ["read"]


def append_bytes(part, content):
    with Path(part.path).open("ab") as file:
        file.write(content)


def test_torn_line_is_read_once_complete_and_its_part_removed(tmp_path, caplog):
    folder = ObjectStoragePath(f"file://{tmp_path}/journal")
    line = json.dumps(row("late").to_json()).encode() + b"\n"

    async def write():
        await WriteAheadLog(folder, "suspended", LOG).write(row("read"))
        (part,) = list_objects(folder)
        append_bytes(part, line[:20])
        wal = WriteAheadLog(folder, "next", LOG)
        assert [found.id for found in await wal.read()] == ["read"]
        append_bytes(part, line[20:])
        assert [found.id for found in await wal.read_late_rows()] == ["late"]
        append_bytes(part, line[:20])
        assert await wal.read_late_rows() == []
        await wal.remove_parts(await wal.make_checkpoint())

    asyncio.run(write())
    assert list_objects(folder) == []


def test_lost_lease_keeps_all_parts(folder):
    async def write():
        wal = WriteAheadLog(folder, "first", LOG)
        await wal.write(row("a"))

        def ensure_held():
            raise AirflowException("lost")

        with pytest.raises(AirflowException, match="lost"):
            await wal.remove_parts(await wal.make_checkpoint(), ensure_held)

    asyncio.run(write())
    assert [found.id for found in read_rows(folder)] == ["a"]


def test_checkpoint_while_a_removal_forgets_parts():
    wal = WriteAheadLog(ObjectStoragePath("memory://bucket/race/journal"), "next", LOG)

    class Entry(tuple):
        def __iter__(self):
            wal._read_parts.pop("1", None)  # as the thread of a removal does
            return super().__iter__()

    for number in range(3):
        part = module._Part(number, "first", wal._folder / f"{number}-first.jsonl")
        wal._read_parts[str(number)] = Entry((part, module._PartProgress(0, 0)))
    checkpoint = asyncio.run(wal.make_checkpoint())
    assert [part.number for part in checkpoint.parts] == [0, 1, 2]


def test_part_that_cannot_be_removed_does_not_block_the_others(monkeypatch, caplog):
    folder = ObjectStoragePath("memory://bucket/held/journal")
    requests = []

    def remove(paths):
        requests.append([path.name for path in paths])
        return {"000000000001-first.jsonl": "AccessDenied"} if len(requests) == 1 else {}

    async def write():
        wal = WriteAheadLog(folder, "first", LOG)
        await wal.read()
        for name in "abcde":
            await wal.write(row(name))
        await wal.remove_parts(await wal.make_checkpoint())
        return list(wal._own_parts)

    monkeypatch.setattr(module, "MAX_REMOVED_OBJECTS", 2)
    monkeypatch.setattr(module, "remove_objects", remove)
    assert asyncio.run(write()) == ["000000000001-first.jsonl"]
    assert [len(names) for names in requests] == [2, 2, 1]
    (record,) = caplog.records
    assert "1 of 5, e.g. 000000000001-first.jsonl (AccessDenied)" in record.getMessage()
