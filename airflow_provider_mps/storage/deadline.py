"""Limit the time of a transfer, and cancel it when Airflow stops its task."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_mps.exceptions import AudioTransferError, AudioTransferStopped, InvalidRequestError
from airflow_provider_mps.redaction import quote_value

if TYPE_CHECKING:
    from collections.abc import Iterator


DEFAULT_TRANSFER_TIMEOUT_SECONDS = 3600.0


def parse_timeout(seconds: object) -> float:
    """
    Return the argument ``transfer_timeout``.

    :raises InvalidRequestError: if it is not a number of seconds above 0
    """
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds > 0:
        return float(seconds)
    raise InvalidRequestError(f"transfer_timeout must be a number of seconds above 0, not {quote_value(seconds)}.")


class Deadline:
    """
    The time limit of a transfer, retries and pauses included. It starts when it is created.

    :param subject: the task or line whose audio is transferred, for errors
    :param cancelled: cancels the transfer when it is set; for threads, in which no signal handler runs
    """

    def __init__(self, seconds: float, subject: str, cancelled: threading.Event | None = None) -> None:
        self._seconds = seconds
        self._subject = subject
        self._cancelled = cancelled
        self._ends_at = time.monotonic() + seconds

    def get_seconds_left(self) -> float:
        """Return the remaining seconds; negative after the deadline."""
        return self._ends_at - time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep, but wake up at the deadline or when the transfer is cancelled."""
        seconds = max(0.0, min(seconds, self.get_seconds_left()))
        if self._cancelled is None:
            time.sleep(seconds)  # unlike Event.wait, safe to interrupt by a signal handler that raises
        else:
            self._cancelled.wait(seconds)

    def check(self) -> None:
        """
        Do nothing while the transfer may continue.

        :raises AudioTransferError: if the time is up
        :raises AudioTransferStopped: if the transfer is cancelled
        """
        if self._cancelled is not None and self._cancelled.is_set():
            raise _make_stopped_error(f"Storing the audio of {self._subject}")
        if self.get_seconds_left() <= 0:
            raise AudioTransferError(
                f"The audio of {self._subject} was not stored within {self._seconds:g} seconds. The destination is "
                "unchanged, or holds the whole audio if only the storage's last response was missing. Raise "
                "transfer_timeout if the audio is long or the network is slow."
            )


class TransferCancellation:
    """
    Raise an exception in the running transfer when Airflow calls ``on_kill``.

    Airflow calls ``on_kill`` in its SIGTERM handler; Airflow 3 then continues the task. Only an exception raised there
    ends a read from a stalled server before Airflow kills the process.
    """

    def __init__(self) -> None:
        self._activity: tuple[int, str] | None = None
        self.is_cancelled = False
        """Whether Airflow has called ``on_kill``."""

    @contextmanager
    def active(self, activity: str) -> Iterator[None]:
        """
        Let :meth:`cancel` interrupt the ``with`` block.

        :param activity: a clause for the error, e.g. "Storing x"
        :raises AudioTransferStopped: when it is cancelled, or if it was cancelled before
        """
        if self.is_cancelled:
            raise _make_stopped_error(activity)
        self._activity = (threading.get_ident(), activity)
        try:
            yield
        finally:
            self._activity = None

    def cancel(self) -> None:
        """Raise if this thread is in the ``with`` block; prevent a later block from starting."""
        self.is_cancelled = True
        activity, self._activity = self._activity, None  # a second signal must not interrupt the cleanup
        if activity and activity[0] == threading.get_ident():
            raise _make_stopped_error(activity[1])


def _make_stopped_error(activity: str) -> AudioTransferStopped:
    return AudioTransferStopped(
        f"{activity} was stopped by Airflow. The uploaded data is discarded, unless the storage was already "
        "completing the upload."
    )
