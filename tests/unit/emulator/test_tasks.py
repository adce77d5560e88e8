import time

import pytest

from airflow_provider_mps.emulator.speech import Style
from airflow_provider_mps.emulator.tasks import TaskBook


@pytest.fixture
def book(tmp_path):
    books = []

    def open_book(synthesis_time):
        books.append(TaskBook(tmp_path, synthesis_time, "tone"))
        return books[-1]

    yield open_book
    for opened in books:
        opened.__exit__()


def submit(book, text="hello", sample_rate=16000):
    return book.submit(text, "voice", None, Style(sample_rate))


def test_each_task_draws_its_time_from_the_range(book):
    now = time.monotonic()
    tasks = book((100, 200))
    due = [submit(tasks).done_at - now for _ in range(50)]
    assert all(100 <= seconds <= 201 for seconds in due)
    assert len(set(due)) > 40


def test_ten_thousand_tasks_that_ask_for_the_same_share_one_audio(book, tmp_path):
    tasks = book((0.0, 0.001))
    submitted = [submit(tasks) for _ in range(10_000)]
    assert len({tasks.audio(task).path for task in submitted}) == 1
    assert len(list(tmp_path.iterdir())) == 1
    assert len({task.task_id for task in submitted}) == 10_000


def test_what_is_asked_for_in_another_way_is_another_audio(book):
    tasks = book(0)
    audio = {tasks.audio(task).path for task in (submit(tasks), submit(tasks, "bye"), submit(tasks, sample_rate=8000))}
    assert len(audio) == 3
