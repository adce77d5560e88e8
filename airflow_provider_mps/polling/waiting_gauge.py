"""Report how many tasks the triggers of a process wait for."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from contextvars import Context
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_provider_mps.concurrency import run_in_daemon_thread
from airflow_provider_mps.metrics import prepare_stats, report_waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_mps.metrics import Metrics

FIRST_REPORT_SECONDS = 1.0
"""Shorter waits are not reported, so that many of them send no more metrics than a long one."""
REPORT_INTERVAL_SECONDS = 10.0
"""Repeated although nothing changes: a StatsD server may have been restarted, or forget a gauge."""


class WaitingGauge:
    """
    The waiting tasks of one event loop: reported every ten seconds while there are any, and then as 0.

    The waits of all poll loops are counted together, because a gauge has only one value.
    """

    def __init__(self) -> None:
        self._counts: Counter[Metrics] = Counter()
        self._reported: dict[Metrics, int] = {}
        self._reporter: asyncio.Task[None] | None = None

    @contextmanager
    def count(self, metrics: Metrics) -> Iterator[None]:
        """Count a task while it is waited for."""
        self._counts[metrics] += 1
        if self._reporter is None or self._reporter.done():  # it may have failed, e.g. without memory for a thread
            # Its own context: it outlives the trigger that started it, and must not write to that trigger's log.
            self._reporter = asyncio.create_task(self._report_periodically(), context=Context())
        try:
            yield
        finally:
            self._counts[metrics] -= 1
            if self._reporter is not None and not self._counts.total():
                self._reporter.cancel()
                self._reporter = None
                if self._reported:
                    self._report()

    async def _report_periodically(self) -> None:
        await run_in_daemon_thread(prepare_stats)
        await asyncio.sleep(FIRST_REPORT_SECONDS)
        while True:
            self._report()
            await asyncio.sleep(REPORT_INTERVAL_SECONDS)

    def _report(self) -> None:
        """Report what waits, and once a 0 for what does not wait any more."""
        waiting = {metrics: count for metrics, count in self._counts.items() if count}
        report_waiting({**dict.fromkeys(self._reported, 0), **waiting})
        self._reported = waiting


def get_waiting_gauge() -> WaitingGauge:
    """Return the gauge of the running event loop."""
    return _GAUGES.setdefault(asyncio.get_running_loop(), WaitingGauge())


_GAUGES: WeakKeyDictionary[asyncio.AbstractEventLoop, WaitingGauge] = WeakKeyDictionary()
