import contextvars
import threading

import pytest

from airflow_provider_mps.concurrency import call_interruptibly

variable = contextvars.ContextVar("variable", default="unset")


def check():
    pass


def test_call_interruptibly_returns_result_and_raises_error():
    assert call_interruptibly(lambda: 5, check) == 5
    with pytest.raises(ZeroDivisionError):
        call_interruptibly(lambda: 1 / 0, check)


def test_call_interruptibly_abandons_hanging_call():
    class AbandonedError(Exception):
        pass

    def raise_abandoned():
        raise AbandonedError

    hanging = threading.Event()
    with pytest.raises(AbandonedError):
        call_interruptibly(lambda: hanging.wait(30), raise_abandoned)
    hanging.set()


def test_call_interruptibly_runs_in_context_of_caller():
    variable.set("of the caller")
    assert call_interruptibly(variable.get, check) == "of the caller"
