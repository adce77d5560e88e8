"""Batches one after another, each killed at some point, with any of the covered parts removed: no row goes back."""

import asyncio
import json
import logging
import random

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.batch.results import parse_covered_parts
from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.write_ahead_log import WriteAheadLog
from airflow_provider_mps.storage.destination import is_local
from airflow_provider_mps.storage.objects import list_objects, remove_object

LOG = logging.getLogger("batch")
BATCHES = 5
LINES = 4


class Model:
    """What is durable in the destination, and what each line's row should be."""

    def __init__(self, folder, rng):
        self.folder, self.rng = folder, rng
        self.results = {}
        self.summary = {}
        self.rows = {}  # the last durable row of each line
        self.late = {}  # rows that suspended batches have written
        self.unread = {}  # those that no batch has read
        self.step = 0

    def make_row(self, name):
        self.step += 1
        return Row(name, 1, LineStatus.PROCESSING, task_id=f"task-{self.step}")

    async def write(self, wal):
        one = self.make_row(f"line-{self.rng.randrange(LINES)}")
        await wal.write(one)
        self.rows[one.id] = one

    async def write_late(self, wal):
        one = self.make_row(f"late-{self.step}")
        await wal.write(one)
        self.late[one.id] = self.unread[one.id] = one

    async def read_late(self, wal):
        found = {one.id: one for one in await wal.read_late_rows()}
        if is_local(self.folder):
            # A local part of another writer may still grow, so it is read again: as late rows, which are older.
            found = {name: one for name, one in found.items() if name in self.late}
        assert found.items() <= self.late.items()
        assert self.unread.items() <= found.items()
        self.unread = {}
        self.rows |= found

    async def restore(self, name):
        wal = WriteAheadLog(self.folder, name, LOG)
        found = await wal.read(self.summary.get("writer"), parse_covered_parts(self.summary))
        assert self.results | {one.id: one for one in found} == self.rows
        await self.read_late(wal)
        return wal

    async def save(self, wal, name):
        """Save the results; return whether the batch still runs."""
        checkpoint = await wal.make_checkpoint()
        self.results = dict(self.rows)
        if self.rng.random() < 0.2:
            return False  # killed before the summary
        self.summary = json.loads(json.dumps({"writer": name, "write_ahead_log": checkpoint.covered}))
        for _ in range(self.rng.randrange(3)):
            await self.write(wal)
        if is_local(self.folder):
            await wal.remove_parts(checkpoint._replace(parts=checkpoint.parts[: self.rng.randrange(4)]))
            return True
        # Killed within the removal, or the storage did not remove all of them.
        for part in self.rng.sample(checkpoint.parts, self.rng.randint(0, len(checkpoint.parts))):
            remove_object(part.path)
        if self.rng.random() < 0.3:
            await wal.remove_parts(checkpoint)
            assert not {part.path.name for part in checkpoint.parts} & {path.name for path in list_objects(self.folder)}
        return True


async def run_batches(folder, rng):
    model, suspended = Model(folder, rng), None
    for number in range(BATCHES):
        name = f"{number:08x}"
        wal = await model.restore(name)
        is_running = await model.save(wal, name)
        while is_running and rng.random() < 0.8:
            for _ in range(rng.randrange(6)):
                await model.write(wal)
            if suspended and rng.random() < 0.5:
                await model.write_late(suspended)
            if rng.random() < 0.5:
                await model.read_late(wal)
            is_running = await model.save(wal, name)
        suspended = wal


@pytest.mark.parametrize("seed", range(40))
def test_any_subset_of_covered_parts_leaves_the_last_rows(seed):
    asyncio.run(run_batches(ObjectStoragePath(f"memory://bucket/covered-{seed}/journal"), random.Random(seed)))


@pytest.mark.parametrize("seed", range(10))
def test_interrupted_removal_of_local_parts_leaves_the_last_rows(tmp_path, seed):
    asyncio.run(run_batches(ObjectStoragePath(f"file://{tmp_path}/journal"), random.Random(seed)))


@pytest.mark.parametrize("covered", [None, [], {"a": "5"}, {"a": None, "b": True, "c": -2}])
def test_summary_without_valid_covered_parts_covers_nothing(covered):
    assert parse_covered_parts({"write_ahead_log": covered}) == {}
