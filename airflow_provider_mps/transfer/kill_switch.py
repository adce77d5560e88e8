"""End what is under way when Airflow wants its task to end."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_mps.errors import AudioTransferStopped

if TYPE_CHECKING:
    from collections.abc import Iterator


class KillSwitch:
    """
    Turns ``on_kill`` into an exception in what is running.

    Airflow calls ``on_kill`` from the handler of SIGTERM, and goes on with the task afterwards: only an exception,
    raised from there, gets out of a read that waits for a silent server before Airflow kills the process for good.
    """

    def __init__(self) -> None:
        self._running: tuple[int, str] | None = None
        self._pulled = False

    @contextmanager
    def armed(self, what: str) -> Iterator[None]:
        """
        Let the switch end what the ``with`` block does.

        :param what: a clause for the message, e.g. "Storing x"
        :raises AudioTransferStopped: when the switch is pulled, or has been before
        """
        if self._pulled:
            raise stopped(what)
        self._running = (threading.get_ident(), what)
        try:
            yield
        finally:
            self._running = None

    def pull(self) -> None:
        """Raise where the block runs in this thread; else it will not begin."""
        self._pulled = True
        running, self._running = self._running, None  # a second signal shall not disturb the clearing up
        if running and running[0] == threading.get_ident():
            raise stopped(running[1])


def stopped(what: str) -> AudioTransferStopped:
    """
    Return what to raise when Airflow wants the task to end.

    :param what: a clause, e.g. "Storing x"
    """
    return AudioTransferStopped(
        f"{what} was stopped by Airflow. What was uploaded is discarded, unless the store was already completing it."
    )
