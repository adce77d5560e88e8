import contextvars
import os
import queue
import threading
import time
import weakref

import pytest

from airflow_provider_mps import concurrency
from airflow_provider_mps.concurrency import call_interruptibly, start_in_worker_thread

variable = contextvars.ContextVar("variable", default="unset")


@pytest.fixture(autouse=True)
def _no_idle_workers():
    concurrency._idle_workers.clear()


def wait_for_idle_workers(count):
    deadline = time.monotonic() + 60
    while len(concurrency._idle_workers) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def run_in_worker(function=threading.get_ident):
    results = queue.SimpleQueue()
    start_in_worker_thread(lambda: results.put(function()), "mps-test")
    return results


def test_idle_thread_is_reused():
    first = run_in_worker().get(timeout=60)
    wait_for_idle_workers(1)
    assert run_in_worker().get(timeout=60) == first


def test_busy_thread_is_not_reused():
    busy = threading.Event()
    run_in_worker(lambda: busy.wait(60))
    second = run_in_worker().get(timeout=60)
    wait_for_idle_workers(1)
    assert run_in_worker().get(timeout=60) == second
    busy.set()
    wait_for_idle_workers(2)


def test_thread_has_name_and_context_of_each_call():
    for value in ("first", "second"):
        variable.set(value)
        assert run_in_worker(variable.get).get(timeout=60) == value
        wait_for_idle_workers(1)
    assert run_in_worker(lambda: threading.current_thread().name).get(timeout=60) == "mps-test"


def test_idle_thread_keeps_nothing_of_its_last_call():
    class Thing:
        pass

    thing = Thing()
    reference = weakref.ref(thing)
    run_in_worker(lambda kept=thing: bool(kept)).get(timeout=60)
    del thing
    wait_for_idle_workers(1)
    assert reference() is None


def test_forked_process_starts_threads_of_its_own():
    assert call_interruptibly(lambda: 5, lambda: None) == 5
    wait_for_idle_workers(1)
    child = os.fork()
    if child == 0:
        os._exit(call_interruptibly(lambda: 7, lambda: None))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
