"""Faults of Airflow itself that sometimes fail a pair of the version matrix, and the logs that prove them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


@dataclass(frozen=True)
class KnownFault:
    """One fault of Airflow's task supervisor, which takes the final state of a task with it."""

    message: str
    """The exception that ends the supervisor, as the log of ``airflow standalone`` has it."""
    warning: str
    """What the supervisor logs shortly before, with the ``pid`` of the task's process."""
    airflows: tuple[str, ...]
    """The versions on which it was seen."""
    effect: str
    link: str


KNOWN_FAULTS = (
    KnownFault(
        message="ValueError: I/O operation on closed epoll object",
        warning="Force-closed stuck sockets",
        airflows=("3.1.8",),
        effect="a supervisor that had closed its sockets read them again, and did not report that its task was skipped "
        "or had failed",
        link="https://github.com/apache/airflow/pull/67115",  # fixed in 3.2.2
    ),
)


@dataclass(frozen=True)
class TestCase:
    """The result of one test of a pair."""

    __test__ = False  # not a test for pytest

    name: str
    result: str
    """``yes``, ``no`` where this Airflow lacks it, or ``FAILED``."""
    tasks: frozenset[str] = frozenset()
    """The Airflow tasks whose outcome the test looked at, as ``dag_id.task_id``."""


@dataclass(frozen=True)
class Attempt:
    """One run of all tests of a pair."""

    airflow: str
    """The exact version."""
    cases: tuple[TestCase, ...]
    log: str
    """The output of Airflow's scheduler, whose executor runs the supervisors."""

    def find_known_faults(self) -> list[KnownFault]:
        """
        Return the faults of Airflow itself that explain every failure of this attempt.

        A failure is explained if the test looked at a task whose own supervisor died of a known fault. The list is
        empty if no test failed, or if a single failure is not explained.
        """
        by_task = {
            task: fault
            for fault in KNOWN_FAULTS
            if self.airflow in fault.airflows
            for task in find_lost_tasks(fault, self.log)
        }
        explained: list[KnownFault] = []
        for case in self.cases:
            if case.result == "FAILED":
                faults = [by_task[task] for task in sorted(case.tasks) if task in by_task]
                if not faults:
                    return []
                explained += faults
        return list(dict.fromkeys(explained))


def find_lost_tasks(fault: KnownFault, log: str) -> set[str]:
    """
    Return the tasks, as ``dag_id.task_id``, whose supervisor died of the fault before it reported their state.

    The log must have, in this order: the supervisor's warning with the pid of the task's process, the message, and the
    scheduler's line that the executor gave up a task with this pid while it was still running.
    """
    tasks = set()
    for warning in re.finditer(rf"{re.escape(fault.warning)} .*\bpid=(\d+)", log):
        _, message, later = log[warning.end() :].partition(f"| {fault.message}\n")
        given_up = rf"\bstate=running, .*\bexecutor_state=failed, .*\bpid={warning[1]}\b"
        task = re.search(rf"TaskInstance Finished: dag_id=(\S+), task_id=(\S+), .*{given_up}", later)
        if message and task:
            tasks.add(f"{task[1]}.{task[2]}")
    return tasks


def run_with_one_repeat(run: Callable[[int], Attempt]) -> tuple[Attempt, list[KnownFault]]:
    """
    Run a pair, and once more if known faults of Airflow itself explain all that failed.

    :param run: runs all tests of the pair; its argument is 1 for the first attempt and 2 for the second
    :return: the attempt that counts, and the faults for which there was a second one
    """
    attempt = run(1)
    faults = attempt.find_known_faults()
    return (run(2) if faults else attempt), faults


def format_footnote(repeats: Mapping[str, Iterable[KnownFault]]) -> str:
    """
    Return the sentence below the table that counts the repeated pairs.

    :param repeats: the faults of each repeated pair, by the pair's name
    """
    if not repeats:
        return "No pair was repeated.\n"
    pairs = "1 pair was" if len(repeats) == 1 else f"{len(repeats)} pairs were"
    reasons = [
        f"{pair} (`{fault.message}`: {fault.effect}, {fault.link})"
        for pair, faults in repeats.items()
        for fault in faults
    ]
    return f"{pairs} repeated: {'; '.join(reasons)}.\n"
