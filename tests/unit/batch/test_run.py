import asyncio
import logging
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.batch.lock_holder import LockHolder
from airflow_provider_mps.batch.run import Batch
from airflow_provider_mps.batch.state import BatchState
from airflow_provider_mps.speech.parsing import OnUnknown


def make_batch(tmp_path):
    options = SimpleNamespace(
        max_total_characters=None,
        submitted_characters=0,
        price_per_1000_characters=None,
        mps_conn_id="mps_default",
        region=None,
        destination=ObjectStoragePath(f"file://{tmp_path}/clips"),
        on_unknown=OnUnknown.FAIL,
        transfer_timeout=60.0,
        resume=True,
        manifest="manifest.jsonl",
        subtitle_encoding=None,
    )
    return Batch(options, LockHolder("dag", "run", "task"), lambda _: None, logging.getLogger("batch"))


def test_cancellation_does_not_interrupt_the_closing(monkeypatch, tmp_path):
    """Airflow may end a task whose batch is closing after an error or execution_timeout."""

    async def main():
        started, steps = asyncio.Event(), []

        async def fail(*_):
            raise RuntimeError("the batch fails")

        async def close(*_, **__):
            started.set()
            steps.append("responses are awaited")
            await asyncio.sleep(0.05)
            steps.append("their outcome is recorded")

        monkeypatch.setattr(Batch, "_process_lines", fail)
        monkeypatch.setattr(Batch, "_close", close)
        batch = make_batch(tmp_path)
        running = asyncio.create_task(batch.run())
        await started.wait()
        running.cancel()
        await asyncio.wait([running])
        return running.cancelled(), steps

    cancelled, steps = asyncio.run(main())
    assert cancelled
    assert steps == ["responses are awaited", "their outcome is recorded"]


@pytest.fixture
def finished_batch(monkeypatch, tmp_path):
    """A batch that has nothing to do, and whose log cannot be removed."""

    async def process(self, _):
        await self._state.restore()

    monkeypatch.setattr(Batch, "_process_lines", process)
    return make_batch(tmp_path)


def is_locked(tmp_path):
    return (tmp_path / "clips" / ".mps-batch" / "lock.json").exists()


def test_finished_batch_succeeds_although_its_removal_is_interrupted(finished_batch, monkeypatch, tmp_path, caplog):
    async def main():
        started = asyncio.Event()

        async def hang(_, *, check_lease=True):
            if not check_lease:
                started.set()
                await asyncio.sleep(60)

        monkeypatch.setattr(BatchState, "remove_log", hang)
        running = asyncio.create_task(finished_batch.run())
        await started.wait()
        assert not is_locked(tmp_path)
        running.cancel()
        return await running

    assert asyncio.run(main()).waiting_task_ids == []
    assert "Removing the write-ahead log was interrupted; the next batch removes it" in caplog.text


def test_finished_batch_succeeds_although_its_removal_fails(finished_batch, monkeypatch, caplog):
    async def fail(_, *, check_lease=True):
        if not check_lease:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(BatchState, "remove_log", fail)
    asyncio.run(finished_batch.run())
    assert "Removing the write-ahead log failed; the next batch removes it: RuntimeError: can't start" in caplog.text
