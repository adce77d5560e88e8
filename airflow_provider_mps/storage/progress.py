"""Log the progress of a long transfer."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any, Protocol

FIRST_LOG_SECONDS = 5.0
"""Shorter transfers log no progress."""
LOG_INTERVAL_SECONDS = 10.0
MIB = 1024 * 1024


class Logger(Protocol):
    """The part of a logger that a transfer uses."""

    def info(self, message: str, /, *args: Any) -> Any:
        """Log a step."""

    def warning(self, message: str, /, *args: Any) -> Any:
        """Log a failure that the transfer recovers from."""


def format_progress(subject: str, received: int, length: int | None, speed: float) -> str:
    """Return the log line for a transfer: bytes received, bytes of the whole audio if known, bytes per second."""
    rate = f"{speed / MIB:.1f} MiB/s"
    if not length:
        return f"{subject}: {received / MIB:.1f} MiB received, {rate}"
    if received >= length:
        return f"{subject}: all {length / MIB:.1f} MiB received, waiting for the upload to finish"
    line = f"{subject}: {100 * received // length} % of {length / MIB:.1f} MiB received, {rate}"
    if speed <= 0:
        return line
    return f"{line}, {timedelta(seconds=round((length - received) / speed))} left"


class Progress:
    """Logs a line every :data:`LOG_INTERVAL_SECONDS`."""

    def __init__(self, subject: str, log: Logger) -> None:
        self._subject = subject
        self._log = log
        self._received = 0
        self._length: int | None = None
        self._last_logged_at = time.monotonic()
        self._last_logged_received = 0
        self._next_log_at = self._last_logged_at + FIRST_LOG_SECONDS

    def update(self, received: int, length: int | None) -> None:
        """Record how many bytes were received, of how many if known, and log the progress if a line is due."""
        self._received, self._length = received, length
        self.log_if_due()

    def log_if_due(self) -> None:
        """Log the recorded progress if a line is due, e.g. while the download waits for the upload."""
        now = time.monotonic()
        if now < self._next_log_at:
            return
        # After a restart, fewer bytes are received than before.
        speed = max(0, self._received - self._last_logged_received) / (now - self._last_logged_at)
        self._log.info("%s", format_progress(self._subject, self._received, self._length, speed))
        self._last_logged_at, self._last_logged_received = now, self._received
        self._next_log_at = now + LOG_INTERVAL_SECONDS
