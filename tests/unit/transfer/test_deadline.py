import threading
import time
from datetime import timedelta

import pytest

from airflow_provider_mps.errors import AudioTransferError, InvalidRequestError
from airflow_provider_mps.transfer.deadline import Deadline, require_timeout


@pytest.mark.parametrize("seconds", [None, "60", 0, -1, float("nan"), True, timedelta(minutes=1)])
def test_what_is_no_number_of_seconds_is_refused(seconds):
    with pytest.raises(InvalidRequestError, match="transfer_timeout"):
        require_timeout(seconds)


def test_a_number_of_seconds_is_taken():
    assert require_timeout(5) == 5


def test_while_there_is_time_nothing_is_raised():
    Deadline(60, "task 1").check()


def test_sleep_lasts_no_longer_than_the_time_that_is_left():
    began = time.monotonic()
    deadline = Deadline(0.05, "task 1")
    deadline.sleep(60)
    assert deadline.left() <= 0
    deadline.sleep(60)
    assert time.monotonic() - began < 30


def test_sleep_ends_when_it_is_stopped():
    stop = threading.Event()
    stop.set()
    began = time.monotonic()
    Deadline(60, "task 1", stop).sleep(60)
    assert time.monotonic() - began < 30


def test_when_there_is_none_the_error_says_what_to_do():
    with pytest.raises(AudioTransferError, match=r"task 1 was not stored within 0 seconds.*transfer_timeout"):
        Deadline(0, "task 1").check()
