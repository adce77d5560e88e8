import asyncio
import json
import logging

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch import group_commit
from airflow_provider_mps.batch.group_commit import GroupCommit
from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.exceptions import DestinationError
from tests.simulated_time import run_in_simulated_time

LONG_SECONDS = 3600.0
"""A delay that no test waits for."""


class Log(GroupCommit):
    """Keeps the ids of each write, and fails while it has an error."""

    def __init__(self):
        super().__init__(logging.getLogger("batch"))
        self.writes = []
        self.error = None

    def _write_rows(self, rows):
        if self.error:
            raise self.error
        self.writes.append([json.loads(row)["id"] for row in rows.splitlines()])


def row(name):
    return Row(name, 1, LineStatus.PROCESSING, task_id=f"task-{name}")


@pytest.fixture
def _long_delays(monkeypatch):
    monkeypatch.setattr(group_commit, "MAX_SHARING_DELAY_SECONDS", LONG_SECONDS)
    monkeypatch.setattr(group_commit, "MAX_UNAWAITED_DELAY_SECONDS", LONG_SECONDS)


async def start_waiting_rows():
    """Return a log with two rows that wait, and the task that awaits the second one."""
    log = Log()
    log._write_seconds = LONG_SECONDS
    log.write_later(row("later"))
    outcome = asyncio.create_task(log.write(row("outcome"), may_delay=True))
    await asyncio.sleep(0)
    return log, outcome


@pytest.mark.usefixtures("_long_delays")
def test_waiting_rows_share_the_write_of_an_urgent_one():
    async def main():
        log, outcome = await start_waiting_rows()
        assert not outcome.done()
        await log.write(row("urgent"))
        await outcome
        return log.writes

    assert asyncio.run(main()) == [["later", "outcome", "urgent"]]


@pytest.mark.usefixtures("_long_delays")
def test_flush_writes_waiting_rows_at_once():
    async def main():
        log, outcome = await start_waiting_rows()
        await log.flush()
        assert log.writes == [["later", "outcome"]]
        await outcome

    asyncio.run(main())


def test_waiting_rows_start_a_write_after_their_delay():
    async def main():
        clock, log = asyncio.get_running_loop().time, Log()
        log._write_seconds = 0.04
        started = clock()
        await log.write(row("outcome"), may_delay=True)
        outcome_after = clock() - started
        log.write_later(row("later"))
        await asyncio.sleep(group_commit.MAX_UNAWAITED_DELAY_SECONDS + 0.1)
        assert log.writes == [["outcome"], ["later"]]
        return outcome_after

    assert run_in_simulated_time(main()) == pytest.approx(0.04)


def test_timer_of_an_earlier_group_does_not_start_a_later_one():
    """Else, rows would rarely share a write."""

    async def main():
        log = Log()
        log.write_later(row("a"))
        await log.write(row("b"))
        await asyncio.sleep(0.9 * group_commit.MAX_UNAWAITED_DELAY_SECONDS)
        log.write_later(row("c"))
        await asyncio.sleep(0.5 * group_commit.MAX_UNAWAITED_DELAY_SECONDS)
        assert log.writes == [["a", "b"]]
        await log.flush()

    run_in_simulated_time(main())


def test_awaited_row_is_durable_when_write_returns():
    async def main():
        log = Log()

        async def write(name, *, may_delay):
            await log.write(row(name), may_delay=may_delay)
            assert name in [written for write in log.writes for written in write]

        await asyncio.gather(*(write(f"{number}", may_delay=number % 3 > 0) for number in range(30)))

    run_in_simulated_time(main())


def test_failed_row_that_is_not_awaited_stops_next_submit():
    async def main():
        log = Log()
        log.error = DestinationError("no permission")
        log.write_later(row("stored"))
        await log.flush()
        assert [lost.id for lost in log.unwritten] == ["stored"]
        log.error = None
        with pytest.raises(DestinationError, match="no permission"):
            await log.write(row("submitting"))
        with pytest.raises(AirflowException, match="no permission"):
            log.write_later(row("stored"))
        assert log.writes == []

    asyncio.run(main())


def test_slow_storage_needs_about_one_write_per_line():
    """Submits at the default rate; a write takes 40 ms, and MPS responds after 80 ms."""
    lines = 200

    class SlowLog(Log):
        async def _append(self, rows):
            await asyncio.sleep(0.04)
            self._write_rows(rows)

    async def main():
        log = SlowLog()

        async def run_line(name):
            await log.write(row(name))
            await asyncio.sleep(0.08)
            await log.write(row(name), may_delay=True)
            await asyncio.sleep(3)
            log.write_later(row(name))

        async with asyncio.TaskGroup() as group:
            for number in range(lines):
                group.create_task(run_line(f"{number}"))
                await asyncio.sleep(1 / 18)
        await log.flush()
        assert sum(len(write) for write in log.writes) == 3 * lines
        return len(log.writes)

    assert run_in_simulated_time(main()) <= 1.25 * lines


def test_any_error_of_a_write_stops_the_batch():
    async def main():
        log = Log()
        log.error = RuntimeError("can't start new thread")
        with pytest.raises(AirflowException, match=r"could not be written \(RuntimeError: can't start new thread\)"):
            await log.write(row("a"))
        with pytest.raises(AirflowException, match="could not be written"):
            log.write_later(row("b"))
        return [one.id for one in log.unwritten]

    assert asyncio.run(main()) == ["a"]
