from __future__ import annotations

import pytest

from dev.known_faults import (
    KNOWN_FAULTS,
    find_known_faults,
    find_tasks_of_closed_epoll,
    find_tasks_of_stale_success,
    format_footnote,
)

CLOSED_EPOLL, STALE_SUCCESS = KNOWN_FAULTS
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
# From Airflow 3.3.2.
STALE = (
    "scheduler  | 2026-11-27T06:35:22.019639Z [error    ] Executor LocalExecutor(parallelism=16) reported that the "
    "task instance <TaskInstance: every_way.rescheduled matrix [queued] ti_id=01a21bb7-1167-73f0-a250-7801f85a9ea6> "
    "finished with state success, but the task instance's state attribute is queued. Learn more: "
    "https://airflow.apache.org/docs/apache-airflow/stable/troubleshooting.html#task-state-changed-externally "
    "[airflow.task] loc=taskinstance.py:1903\n"
)
SKIPPED, RESCHEDULED = "every_way.skipped matrix", "every_way.rescheduled matrix"


def test_closed_epoll_in_log_names_lost_task():
    assert find_tasks_of_closed_epoll(f"first\n{LOG}last\n") == {SKIPPED}


def test_two_closed_epolls_in_log_name_both_tasks():
    other_finished = FINISHED.replace("6434", "6500").replace("task_id=skipped", "task_id=failed")
    warnings = WARNING + WARNING.replace("6434", "6500")
    assert find_tasks_of_closed_epoll(warnings + TRACEBACK * 2 + other_finished + FINISHED) == {
        SKIPPED,
        "every_way.failed matrix",
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
def test_log_similar_to_closed_epoll_names_no_task(log):
    assert find_tasks_of_closed_epoll(log[1]) == set()


def test_stale_success_of_two_tasks_names_both():
    other = STALE.replace(
        "rescheduled matrix [queued] ti_id=01a21bb7-1167-73f0-a250-7801f85a9ea6", "deferred run [queued]"
    )
    assert find_tasks_of_stale_success(f"first\n{STALE}{other}last\n") == {RESCHEDULED, "every_way.deferred run"}


@pytest.mark.parametrize(
    "log",
    {
        "process failed": STALE.replace("with state success", "with state failed"),
        "another state": STALE.replace("[queued]", "[running]").replace("is queued", "is running"),
        "another message": STALE.replace("but the task", "and the task"),
        "empty": "",
    }.items(),
    ids=lambda item: item[0],
)
def test_log_similar_to_stale_success_names_no_task(log):
    assert find_tasks_of_stale_success(log[1]) == set()


def test_each_fault_explains_the_task_it_lost():
    assert find_known_faults([SKIPPED], LOG, "3.1.8") == [CLOSED_EPOLL]
    assert find_known_faults([RESCHEDULED], STALE, "3.3.2") == [STALE_SUCCESS]
    assert set(find_known_faults([RESCHEDULED, SKIPPED], LOG + STALE, "3.1.8")) == {CLOSED_EPOLL, STALE_SUCCESS}


def test_no_unexpected_task_needs_no_explanation():
    assert find_known_faults([], LOG + STALE, "3.1.8") == []


@pytest.mark.parametrize(
    "task", ["every_way.failed matrix", "another_dag.skipped matrix", "every_way.skipped another_run"]
)
@pytest.mark.parametrize("others", [[], [SKIPPED]], ids=["alone", "beside a lost task"])
def test_task_that_failed_for_another_reason_is_not_explained(task, others):
    assert find_known_faults([*others, task], LOG + STALE, "3.1.8") == []


def test_known_fault_on_another_airflow_explains_nothing():
    assert find_known_faults([SKIPPED], LOG, "3.3.2") == []


def test_footnote_counts_repeated_pairs():
    assert format_footnote({}) == "No pair was repeated.\n"
    one = format_footnote({"Airflow 3.1.8 on Python 3.12": [CLOSED_EPOLL]})
    assert one.startswith("1 pair was repeated: Airflow 3.1.8 on Python 3.12 (`ValueError: I/O operation on closed")
    assert one.endswith(f"{CLOSED_EPOLL.url}).\n")
    two = format_footnote(
        {"Airflow 3.1.8 on Python 3.12": [CLOSED_EPOLL], "Airflow 3.1.8 on Python 3.13": [CLOSED_EPOLL]}
    )
    assert two.startswith("2 pairs were repeated: ")
    assert "; Airflow 3.1.8 on Python 3.13 (" in two
