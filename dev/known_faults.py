"""Faults of Airflow itself that sometimes lose a task, and how to recognize them in the scheduler's log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


@dataclass(frozen=True)
class KnownFault:
    """One fault of Airflow."""

    message: str
    """Line in the log of ``airflow standalone`` that shows this fault."""
    airflows: tuple[str, ...]
    """Versions on which it was seen or reported."""
    effect: str
    url: str
    find_lost_tasks: Callable[[str], set[str]]
    """Returns the tasks that this fault lost according to a log, as ``dag_id.task_id run_id``."""


CLOSED_EPOLL = "ValueError: I/O operation on closed epoll object"
STALE_SUCCESS = "finished with state success, but the task instance's state attribute is queued"


def find_tasks_of_closed_epoll(log: str) -> set[str]:
    """
    Return the tasks whose supervisor died of a closed epoll before it reported their state.

    The log must contain, in this order: the supervisor's warning with the pid of the task's process, the message, and
    the scheduler's line that the executor failed a task with this pid in state ``running``.
    """
    tasks = set()
    for warning in re.finditer(r"Force-closed stuck sockets .*\bpid=(\d+)", log):
        _, message, later = log[warning.end() :].partition(f"| {CLOSED_EPOLL}\n")
        given_up = rf"\bstate=running, .*\bexecutor_state=failed, .*\bpid={warning[1]}\b"
        task = re.search(rf"TaskInstance Finished: dag_id=(\S+), task_id=(\S+), run_id=(\S+), .*{given_up}", later)
        if message and task:
            tasks.add(f"{task[1]}.{task[2]} {task[3]}")
    return tasks


def find_tasks_of_stale_success(log: str) -> set[str]:
    """
    Return the tasks that the scheduler failed because it processed the end of their first process too late.

    When a task reschedules or defers, its process ends with success. If the scheduler has queued the task again before
    it processes this end, it mistakes it for the end of the next process. No other task is queued twice in one attempt.
    """
    lost = rf"reported that the task instance <TaskInstance: (\S+ \S+) \[queued\].*> {STALE_SUCCESS}\."
    return set(re.findall(lost, log))


KNOWN_FAULTS = (
    KnownFault(
        message=CLOSED_EPOLL,
        airflows=("3.1.8",),
        effect="a supervisor read sockets that it had closed, and died before it reported that its task was skipped or "
        "had failed",
        url="https://github.com/apache/airflow/pull/67115",  # fixed in 3.2.2
        find_lost_tasks=find_tasks_of_closed_epoll,
    ),
    KnownFault(
        message=STALE_SUCCESS,
        airflows=("2.11.2", "3.0.6", "3.1.8", "3.2.2", "3.3.2"),
        effect="the scheduler failed a task that had rescheduled or deferred: it processed the end of the task's first "
        "process after it had queued the task again",
        url="https://github.com/apache/airflow/issues/71172",  # for deferred tasks: issues 67287 and 72716
        find_lost_tasks=find_tasks_of_stale_success,
    ),
)


def find_known_faults(tasks: Iterable[str], log: str, airflow: str) -> list[KnownFault]:
    """
    Return the faults of Airflow itself that explain why these tasks ended in a wrong state.

    The list is empty if there are no tasks, or if one of them is not explained.

    :param tasks: each as ``dag_id.task_id run_id``
    :param log: the output of ``airflow standalone``
    :param airflow: the exact version
    """
    by_task = {
        task: fault for fault in KNOWN_FAULTS if airflow in fault.airflows for task in fault.find_lost_tasks(log)
    }
    tasks = set(tasks)
    if tasks - by_task.keys():
        return []
    return list(dict.fromkeys(by_task[task] for task in sorted(tasks)))


def format_footnote(repeats: Mapping[str, Iterable[KnownFault]]) -> str:
    """
    Return the sentence below the table of versions that counts the pairs whose DAG run was repeated.

    :param repeats: the faults of each such pair, by the pair's name
    """
    if not repeats:
        return "No pair was repeated.\n"
    pairs = "1 pair was" if len(repeats) == 1 else f"{len(repeats)} pairs were"
    reasons = [
        f"{pair} (`{fault.message}`: {fault.effect}, {fault.url})"
        for pair, faults in repeats.items()
        for fault in faults
    ]
    return f"{pairs} repeated: {'; '.join(reasons)}.\n"
