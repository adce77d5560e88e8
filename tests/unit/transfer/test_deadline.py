import pytest

from airflow_provider_mps.errors import AudioTransferError
from airflow_provider_mps.transfer.deadline import Deadline


def test_while_there_is_time_nothing_is_raised():
    Deadline(60, "task 1").check()


def test_when_there_is_none_the_error_says_what_to_do():
    with pytest.raises(AudioTransferError, match=r"task 1 was not stored within 0 seconds.*transfer_timeout"):
        Deadline(0, "task 1").check()
