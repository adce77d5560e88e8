import threading
import time
from contextlib import ExitStack
from datetime import timedelta

import pytest

from airflow_provider_mps.exceptions import AudioTransferError, AudioTransferStopped, InvalidRequestError
from airflow_provider_mps.storage.deadline import Deadline, TransferCancellation, parse_timeout


@pytest.mark.parametrize("seconds", [None, "60", 0, -1, float("nan"), True, timedelta(minutes=1)])
def test_parse_timeout_invalid_value_raises(seconds):
    with pytest.raises(InvalidRequestError, match="transfer_timeout"):
        parse_timeout(seconds)


def test_parse_timeout_returns_seconds():
    assert parse_timeout(5) == 5


def test_deadline_check_before_end_raises_nothing():
    Deadline(60, "task 1").check()


def test_deadline_sleep_ends_at_deadline():
    started_at = time.monotonic()
    deadline = Deadline(0.05, "task 1")
    deadline.sleep(60)
    assert deadline.get_seconds_left() <= 0
    deadline.sleep(60)
    assert time.monotonic() - started_at < 30


def test_deadline_sleep_ends_when_cancelled():
    cancelled = threading.Event()
    cancelled.set()
    started_at = time.monotonic()
    Deadline(60, "task 1", cancelled).sleep(60)
    assert time.monotonic() - started_at < 30


def test_deadline_check_after_end_names_transfer_timeout():
    with pytest.raises(AudioTransferError, match=r"task 1 was not stored within 0 seconds.*Raise transfer_timeout"):
        Deadline(0, "task 1").check()


def test_cancel_raises_error_that_names_the_activity():
    cancellation = TransferCancellation()
    with (
        pytest.raises(AudioTransferStopped, match="Storing x was stopped by Airflow"),
        cancellation.active("Storing x"),
    ):
        cancellation.cancel()


def cancel_twice(cancellation, cleanups):
    with cancellation.active("Storing x"), ExitStack() as stack:
        stack.callback(cleanups.append, "done")
        stack.callback(cancellation.cancel)
        cancellation.cancel()


def test_cancel_during_cleanup_raises_nothing():
    cleanups = []
    with pytest.raises(AudioTransferStopped):
        cancel_twice(TransferCancellation(), cleanups)
    assert cleanups == ["done"]


def test_cancel_before_start_prevents_start():
    cancellation = TransferCancellation()
    cancellation.cancel()
    with pytest.raises(AudioTransferStopped), cancellation.active("Storing x"):
        pytest.fail("the block was entered")


def test_cancel_after_end_does_nothing():
    # Airflow also calls on_kill after an execution timeout.
    cancellation = TransferCancellation()
    with cancellation.active("Storing x"):
        pass
    cancellation.cancel()


def test_cancel_from_other_thread_raises_nothing():
    cancellation = TransferCancellation()
    returned = []
    with cancellation.active("Storing x"):
        thread = threading.Thread(target=lambda: returned.append(cancellation.cancel()))
        thread.start()
        thread.join()
    assert returned == [None]


def test_transfer_stopped_is_no_exception_subclass():
    assert not issubclass(AudioTransferStopped, Exception)
