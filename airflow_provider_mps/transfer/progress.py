"""What the log says of a transfer that takes its time."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_mps.transfer.log import Log

FIRST = 5.0
"""Seconds after which a transfer is long enough to be told of."""
EVERY = 10.0
"""Seconds between two lines."""
MIB = 1024 * 1024


def progress_line(subject: str, received: int, length: int | None, speed: float) -> str:
    """
    Tell how far a transfer is.

    :param received: bytes that have arrived
    :param length: bytes of the whole, where it is known
    :param speed: bytes a second
    """
    rate = f"{speed / MIB:.1f} MiB/s"
    if not length:
        return f"{subject}: {received / MIB:.1f} MiB moved, {rate}"
    if received >= length:
        return f"{subject}: all of {length / MIB:.1f} MiB has arrived, and its store takes the last of it"
    share = f"{subject}: {100 * received // length} % of {length / MIB:.1f} MiB moved, {rate}"
    if speed <= 0:
        return share
    return f"{share}, {timedelta(seconds=round((length - received) / speed))} left"


class Progress:
    """
    Logs a line now and then.

    :param subject: whose audio it is
    :param log: where
    """

    def __init__(self, subject: str, log: Log) -> None:
        self._subject = subject
        self._log = log
        self._last_at = time.monotonic()
        self._last_received = 0
        self._received = 0
        self._length: int | None = None
        self._next_at = self._last_at + FIRST

    def tell(self, received: int, length: int | None) -> None:
        """
        Log how far the transfer is, where the time has come.

        :param received: bytes that have arrived
        :param length: bytes of the whole, where it is known
        """
        self._received, self._length = received, length
        self.tell_again()

    def tell_again(self) -> None:
        """Do so while nothing arrives, because the upload is what takes its time."""
        now = time.monotonic()
        if now < self._next_at:
            return
        # Less than before, where it has begun anew.
        speed = max(0, self._received - self._last_received) / (now - self._last_at)
        self._log.info("%s", progress_line(self._subject, self._received, self._length, speed))
        self._last_at, self._last_received, self._next_at = now, self._received, now + EVERY
