from __future__ import annotations

from xml.etree import ElementTree

import pytest

from dev.known_faults import KNOWN_FAULTS, Attempt, TestCase, find_lost_tasks, format_footnote, run_with_one_repeat
from dev.matrix import _read_report

(FAULT,) = KNOWN_FAULTS
# From Airflow 3.1.8, without the frames of the traceback.
WARNING = (
    "scheduler  | 2026-11-27T03:00:15.865078Z [warning  ] Force-closed stuck sockets     [supervisor] "
    "loc=supervisor.py:662 pid=6434 sockets=['stdout(fd=19)', 'stderr(fd=21)', 'logs(fd=25)', 'requests(fd=23)']\n"
)
TRACEBACK = (
    "scheduler  | 2026-11-27T03:00:15.865935Z [error    ] uhoh                           "
    "[airflow.executors.local_executor.LocalExecutor] loc=local_executor.py:100\n"
    "scheduler  | Traceback (most recent call last):\n"
    "scheduler  | fd_event_list = self._selector.poll(timeout, max_ev)\n"
    "scheduler  | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n"
    "scheduler  | ValueError: I/O operation on closed epoll object\n"
)
FINISHED = (
    "scheduler  | 2026-11-27T03:00:16.501188Z [info     ] TaskInstance Finished: dag_id=every_way, task_id=skipped, "
    "run_id=matrix, map_index=-1, run_start_date=2026-11-27 03:00:03.142785+00:00, run_end_date=None, "
    "run_duration=None, state=running, executor=LocalExecutor(parallelism=4), executor_state=failed, try_number=1, "
    "max_tries=2, pool=default_pool, queue=default, priority_weight=1, operator=TextToSpeechTaskSensor, "
    "queued_dttm=2026-11-27 03:00:02.799652+00:00, scheduled_dttm=2026-11-27 03:00:02.779555+00:00,"
    "queued_by_job_id=2, pid=6434 [airflow.jobs.scheduler_job_runner.SchedulerJobRunner] "
    "loc=scheduler_job_runner.py:912\n"
)
LOG = WARNING + TRACEBACK + FINISHED
SKIPPED = "every_way.skipped"
PASSED = TestCase("the audio is stored in a folder", "yes", frozenset({"every_way.stored"}))
LOST = TestCase("soft fail skips", "FAILED", frozenset({SKIPPED}))


def make_attempt(*cases: TestCase, airflow: str = "3.1.8", log: str = LOG) -> Attempt:
    return Attempt(airflow, cases, log)


class Pair:
    """Returns one attempt after the other, and counts them."""

    def __init__(self, *attempts: Attempt) -> None:
        self.attempts = attempts
        self.numbers: list[int] = []

    def run(self, number: int) -> Attempt:
        self.numbers.append(number)
        return self.attempts[number - 1]


def test_known_fault_in_log_names_lost_task():
    assert find_lost_tasks(FAULT, f"first\n{LOG}last\n") == {SKIPPED}


def test_two_known_faults_in_log_name_both_tasks():
    other_finished = FINISHED.replace("6434", "6500").replace("task_id=skipped", "task_id=failed")
    warnings = WARNING + WARNING.replace("6434", "6500")
    assert find_lost_tasks(FAULT, warnings + TRACEBACK * 2 + other_finished + FINISHED) == {
        SKIPPED,
        "every_way.failed",
    }


@pytest.mark.parametrize(
    "log",
    {
        "another message": LOG.replace("closed epoll object", "closed file"),
        "another exception": LOG.replace("ValueError: I/O", "OSError: I/O"),
        "exception whose name ends alike": LOG.replace("ValueError: I", "OtherValueError: I"),
        "longer message": LOG.replace("epoll object\n", "epoll object pair\n"),
        "no message": WARNING + FINISHED,
        "no warning": TRACEBACK + FINISHED,
        "task not given up": WARNING + TRACEBACK,
        "another process": LOG.replace("pid=6434 [airflow", "pid=64340 [airflow"),
        "state was reported": LOG.replace("state=running", "state=skipped"),
        "executor succeeded": LOG.replace("executor_state=failed", "executor_state=success"),
        "message after the end": WARNING + FINISHED + TRACEBACK,
        "empty": "",
    }.items(),
    ids=lambda item: item[0],
)
def test_similar_log_names_no_task(log):
    assert find_lost_tasks(FAULT, log[1]) == set()


def test_pair_with_known_fault_is_repeated():
    pair = Pair(make_attempt(PASSED, LOST), make_attempt(PASSED, log=""))
    assert run_with_one_repeat(pair.run) == (pair.attempts[1], [FAULT])
    assert pair.numbers == [1, 2]


def test_pair_without_failure_is_not_repeated():
    pair = Pair(make_attempt(PASSED))
    assert run_with_one_repeat(pair.run) == (pair.attempts[0], [])
    assert pair.numbers == [1]


@pytest.mark.parametrize(
    "case",
    [
        TestCase("a failed task is not tried again", "FAILED", frozenset({"every_way.failed"})),
        TestCase("airflow lists the provider", "FAILED"),
        TestCase("soft fail skips", "FAILED", frozenset({"another_dag.skipped"})),
    ],
    ids=["another task", "no task", "another DAG"],
)
@pytest.mark.parametrize("others", [[PASSED], [PASSED, LOST]], ids=["alone", "beside a lost task"])
def test_failure_for_another_reason_is_not_repeated(case, others):
    pair = Pair(make_attempt(*others, case))
    assert run_with_one_repeat(pair.run) == (pair.attempts[0], [])
    assert pair.numbers == [1]


def test_known_fault_on_another_airflow_is_not_repeated():
    pair = Pair(make_attempt(LOST, airflow="3.3.2"))
    assert run_with_one_repeat(pair.run) == (pair.attempts[0], [])


def test_pair_without_any_result_is_not_repeated():
    pair = Pair(make_attempt())
    assert run_with_one_repeat(pair.run) == (pair.attempts[0], [])


def test_second_failure_with_known_fault_counts():
    pair = Pair(make_attempt(LOST), make_attempt(LOST))
    assert run_with_one_repeat(pair.run) == (pair.attempts[1], [FAULT])
    assert pair.numbers == [1, 2]


def test_footnote_counts_repeated_pairs():
    assert format_footnote({}) == "No pair was repeated.\n"
    one = format_footnote({"Airflow 3.1.8 on Python 3.12": [FAULT]})
    assert one.startswith("1 pair was repeated: Airflow 3.1.8 on Python 3.12 (`ValueError: I/O operation on closed")
    assert one.endswith(f"{FAULT.link}).\n")
    two = format_footnote({"Airflow 3.1.8 on Python 3.12": [FAULT], "Airflow 3.1.8 on Python 3.13": [FAULT]})
    assert two.startswith("2 pairs were repeated: ")
    assert "; Airflow 3.1.8 on Python 3.13 (" in two


def test_report_gives_result_and_tasks_of_each_test(tmp_path):
    report = ElementTree.fromstring("""
        <testsuites><testsuite>
            <testcase name="test_soft_fail_skips"><properties>
                <property name="task" value="every_way.skipped"/><property name="task" value="every_way.skipped"/>
                <property name="other" value="every_way.stored"/>
            </properties><failure message="assert"/></testcase>
            <testcase name="test_a_batch_stores_every_line[batch_deferred]"><error message="setup"/></testcase>
            <testcase name="test_the_player_plays_what_was_stored"><skipped/></testcase>
            <testcase name="test_the_demo_stores_a_clip"/>
        </testsuite></testsuites>""")
    ElementTree.ElementTree(report).write(tmp_path / "report.xml")
    assert _read_report(tmp_path / "report.xml") == (
        LOST,
        TestCase("a batch stores every line: batch deferred", "FAILED"),
        TestCase("the player plays what was stored", "no"),
        TestCase("the demo stores a clip", "yes"),
    )


def test_report_that_is_not_there_gives_no_result(tmp_path):
    assert _read_report(tmp_path / "report.xml") == ()
