"""Which waiter is polled next, and when again."""

import pytest

from airflow_provider_mps.polling.event import LastSeen
from airflow_provider_mps.polling.intervals import PollInterval
from airflow_provider_mps.polling.poll_queue import PollQueue, Waiter


def make_waiter(oldest_first_since=None, seconds=10):
    return Waiter(None, PollInterval(seconds), 0.0, None, LastSeen(), oldest_first_since)


def push_all(*waiters):
    """Push waiters with the times at which they are due."""
    queue = PollQueue()
    for waiter, due in waiters:
        queue.waiters.add(waiter)
        queue.push(waiter, due)
    return queue


def pop_all(queue, now):
    popped = []
    while (due := queue.next_due(now)) is not None and due <= now:
        popped.append(queue.pop())
    return popped


def test_queue_pops_the_earliest_due_first():
    first, second, later = (make_waiter() for _ in range(3))
    queue = push_all((second, 2), (later, 6), (first, 1))
    assert pop_all(queue, now=5) == [first, second]
    assert queue.next_due(5) == 6


def test_queue_pops_the_oldest_of_those_that_are_due():
    older, newer, oldest = make_waiter(2), make_waiter(3), make_waiter(1)
    queue = push_all((newer, 20), (older, 30), (oldest, 40))
    assert pop_all(queue, now=35) == [older, newer]
    assert pop_all(queue, now=40) == [oldest]


def test_queue_pops_a_polled_waiter_after_those_that_began_before_its_head_start():
    polled, older, newer = make_waiter(1), make_waiter(24), make_waiter(26)
    polled.head_start = 10
    queue = push_all((polled, 35), (older, 34), (newer, 36))
    assert pop_all(queue, now=40) == [older, polled, newer]


def test_head_start_begins_no_earlier_than_the_wait():
    polled, newer = make_waiter(20), make_waiter(21)
    polled.head_start = 60
    assert pop_all(push_all((newer, 31), (polled, 35)), now=40) == [polled, newer]


def test_queue_pops_waiters_without_oldest_first_before_others():
    oldest, other = make_waiter(1), make_waiter()
    queue = push_all((oldest, 10), (other, 30))
    assert pop_all(queue, now=35) == [other, oldest]


def test_queue_without_waiters_has_none_due():
    waiter = make_waiter()
    queue = push_all((waiter, 1))
    queue.remove(waiter)
    assert queue.next_due(5) is None
    queue.push(waiter, 1)
    assert queue.next_due(5) is None


@pytest.mark.parametrize(
    ("since", "cycle", "delay"),
    [
        (None, 500, 10),
        (0, 9, 10),  # not busy
        (0, 500, 60),  # a tenth of its age
        (0, 40, 40),  # no longer than it takes to poll each task once
        (550, 500, 10),
    ],
)
def test_delay_after_poll_is_the_interval_unless_busy(since, cycle, delay):
    assert make_waiter(since).delay_after_poll(polled_at=600, cycle=cycle, fraction=0.5) == delay
