import asyncio
import logging
from types import SimpleNamespace

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.batch.lock_holder import LockHolder
from airflow_provider_mps.batch.run import Batch
from airflow_provider_mps.speech.parsing import OnUnknown


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
        options = SimpleNamespace(
            mps_conn_id="mps_default",
            region=None,
            destination=ObjectStoragePath(f"file://{tmp_path}/clips"),
            on_unknown=OnUnknown.FAIL,
            transfer_timeout=60.0,
        )
        batch = Batch(options, LockHolder("dag", "run", "task"), lambda _: None, logging.getLogger("batch"))
        running = asyncio.create_task(batch.run())
        await started.wait()
        running.cancel()
        await asyncio.wait([running])
        return running.cancelled(), steps

    cancelled, steps = asyncio.run(main())
    assert cancelled
    assert steps == ["responses are awaited", "their outcome is recorded"]
