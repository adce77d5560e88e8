import asyncio
import logging
from types import SimpleNamespace

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.batch.lease import Holder
from airflow_provider_mps.batch.run import Batch
from airflow_provider_mps.choice import OnUnknown


def test_cancellation_does_not_interrupt_the_cleaning_up(monkeypatch, tmp_path):
    """A batch may end by an error or by execution_timeout, and Airflow ends the task meanwhile."""

    async def main():
        started, steps = asyncio.Event(), []

        async def fail(*_):
            raise RuntimeError("the batch ends")

        async def clear_up(*_, **__):
            started.set()
            steps.append("responses are awaited")
            await asyncio.sleep(0.05)
            steps.append("their outcome is written down")

        monkeypatch.setattr(Batch, "_work", fail)
        monkeypatch.setattr(Batch, "_clear_up", clear_up)
        options = SimpleNamespace(
            mps_conn_id="mps_default",
            region=None,
            destination=ObjectStoragePath(f"file://{tmp_path}/clips"),
            on_unknown=OnUnknown.FAIL,
            transfer_timeout=60.0,
        )
        batch = Batch(options, Holder("dag", "run", "task"), lambda _: None, logging.getLogger("batch"))
        running = asyncio.create_task(batch.run())
        await started.wait()
        running.cancel()
        await asyncio.wait([running])
        return running.cancelled(), steps

    cancelled, steps = asyncio.run(main())
    assert cancelled
    assert steps == ["responses are awaited", "their outcome is written down"]
