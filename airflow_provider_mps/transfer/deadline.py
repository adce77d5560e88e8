"""The time that one transfer may take in all."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_provider_mps.errors import AudioTransferError, InvalidRequestError
from airflow_provider_mps.redaction import quoted
from airflow_provider_mps.transfer.kill_switch import stopped

if TYPE_CHECKING:
    import threading

DEFAULT_TIMEOUT = 3600.0
"""Seconds."""


def require_timeout(seconds: object) -> float:
    """
    Return the argument ``transfer_timeout``.

    :raises InvalidRequestError: when it is no number of seconds above 0
    """
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds > 0:
        return float(seconds)
    raise InvalidRequestError(f"transfer_timeout must be a number of seconds above 0, not {quoted(seconds)}.")


class Deadline:
    """
    Begins when it is made.

    :param seconds: how long everything may take, tries and waiting included
    :param subject: whose audio it is, for the error
    :param stop: set where nobody wants it any more
    """

    def __init__(self, seconds: float, subject: str, stop: threading.Event | None = None) -> None:
        self._seconds = seconds
        self._subject = subject
        self._stop = stop
        self._ends = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left; below 0 where the time is up."""
        return self._ends - time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait, but not longer than until the time is up or ``stop`` is set."""
        seconds = max(0.0, min(seconds, self.left()))
        if self._stop is None:
            time.sleep(seconds)
        else:
            self._stop.wait(seconds)

    def check(self) -> None:
        """
        Return while there is time left.

        :raises AudioTransferError: when there is none
        :raises AudioTransferStopped: when nobody wants it any more
        """
        if self._stop is not None and self._stop.is_set():
            raise stopped(f"Storing the audio of {self._subject}")
        if self.left() <= 0:
            raise AudioTransferError(
                f"The audio of {self._subject} was not stored within {self._seconds:g} seconds, so it was given up. At "
                "its destination is what was there before or, if only the store's last answer was missing, the whole "
                "audio. Raise transfer_timeout if it is that long, or the network that slow."
            )
