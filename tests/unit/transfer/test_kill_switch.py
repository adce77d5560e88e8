import threading
from contextlib import ExitStack

import pytest

from airflow_provider_mps.errors import AudioTransferStopped
from airflow_provider_mps.transfer.kill_switch import KillSwitch


def test_a_pull_ends_what_is_running_with_a_sentence_that_names_it():
    switch = KillSwitch()
    with pytest.raises(AudioTransferStopped, match="Storing x was stopped by Airflow"), switch.armed("Storing x"):
        switch.pull()


def pull_twice(switch, cleared_up):
    with switch.armed("Storing x"), ExitStack() as clearing:
        clearing.callback(cleared_up.append, "cleared up")
        clearing.callback(switch.pull)
        switch.pull()


def test_a_second_pull_does_not_disturb_the_clearing_up():
    cleared_up = []
    with pytest.raises(AudioTransferStopped):
        pull_twice(KillSwitch(), cleared_up)
    assert cleared_up


def test_a_pull_before_the_beginning_lets_it_not_begin():
    switch = KillSwitch()
    switch.pull()
    with pytest.raises(AudioTransferStopped), switch.armed("Storing x"):
        pytest.fail("it has begun")


def test_a_pull_after_the_end_does_nothing():
    # Airflow calls on_kill also after a time-out has ended the task.
    switch = KillSwitch()
    with switch.armed("Storing x"):
        pass
    switch.pull()


def test_a_pull_in_another_thread_raises_nothing_there():
    switch = KillSwitch()
    returned = []
    with switch.armed("Storing x"):
        thread = threading.Thread(target=lambda: returned.append(switch.pull()))
        thread.start()
        thread.join()
    assert returned == [None]


def test_it_is_no_exception_that_a_library_would_take_for_an_error_of_its_own():
    assert not issubclass(AudioTransferStopped, Exception)
