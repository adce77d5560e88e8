import contextvars
import threading

import pytest

from airflow_provider_mps.transfer.waited_for import waited_for

told = contextvars.ContextVar("told", default="nothing")


def wanted():
    pass


def test_what_it_returns_and_raises_is_returned_and_raised():
    assert waited_for(lambda: 5, wanted) == 5
    with pytest.raises(ZeroDivisionError):
        waited_for(lambda: 1 / 0, wanted)


def test_what_hangs_is_left_where_nobody_wants_it_any_more():
    class NotWantedError(Exception):
        pass

    def not_wanted():
        raise NotWantedError

    hanging = threading.Event()
    with pytest.raises(NotWantedError):
        waited_for(lambda: hanging.wait(30), not_wanted)
    hanging.set()


def test_it_runs_in_the_context_of_who_waits_for_it():
    told.set("something")
    assert waited_for(told.get, wanted) == "something"
