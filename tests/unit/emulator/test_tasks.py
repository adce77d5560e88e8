import time

import pytest
from fastcrc import crc64

from airflow_provider_mps.emulator.speech import Style, measure_seconds, speak
from airflow_provider_mps.emulator.tasks import Status, TaskStore


@pytest.fixture
def book(tmp_path):
    stores = []

    def open_book(synthesis_time):
        stores.append(TaskStore(tmp_path, synthesis_time, "tone"))
        return stores[-1]

    yield open_book
    for opened in stores:
        opened.__exit__()


def submit(book, text="hello", sample_rate=16000):
    return book.submit(text, "voice", None, Style(sample_rate))


def test_each_task_draws_its_time_from_the_range(book):
    now = time.monotonic()
    tasks = book((100, 200))
    due = [submit(tasks).done_at - now for _ in range(50)]
    assert all(100 <= seconds <= 201 for seconds in due)
    assert len(set(due)) > 40


def test_ten_thousand_equal_tasks_share_one_audio(book, tmp_path):
    tasks = book((0.0, 0.001))
    submitted = [submit(tasks) for _ in range(10_000)]
    assert len({tasks.audio(task).path for task in submitted}) == 1
    assert len(list(tmp_path.iterdir())) == 1
    assert len({task.task_id for task in submitted}) == 10_000


def test_different_requests_get_different_audio(book):
    tasks = book(0)
    audio = {tasks.audio(task).path for task in (submit(tasks), submit(tasks, "bye"), submit(tasks, sample_rate=8000))}
    assert len(audio) == 3


def test_added_audio_is_a_finished_task(book):
    tasks = book(60)
    wav = speak("hello", style=Style(duration=3), voice="tone")
    task = tasks.add(wav, "its-voice")
    assert (tasks.find(task.task_id), tasks.status(task), task.voice_id) == (task, Status.SUCCESS, "its-voice")
    audio = tasks.audio(task)
    assert (audio.path.read_bytes(), audio.crc64, audio.duration) == (wav, crc64.xz(wav), 3)


def test_added_file_is_served_in_place_and_may_be_no_wav(book, tmp_path):
    file = tmp_path / "large.bin"
    file.write_bytes(bytes(3_000_000))
    tasks = book(60)
    audio = tasks.audio(tasks.add(file, "v"))
    assert (audio.path, audio.crc64, audio.duration) == (file, crc64.xz(bytes(3_000_000)), 0)


@pytest.mark.parametrize("noise", [b"", b"RIFF", b"not a WAV at all, and long enough to have a header of its own"])
def test_file_that_is_no_wav_has_duration_zero(book, noise):
    tasks = book(0)
    assert tasks.audio(tasks.add(noise, "v")).duration == 0


def test_replacement_differs_everywhere_and_is_longer(book):
    tasks = book(0)
    task = submit(tasks, "hello " * 10)
    before = tasks.audio(task)
    old = before.path.read_bytes()
    tasks.replace_audio(task)
    after = tasks.audio(task)
    new = after.path.read_bytes()
    assert measure_seconds(new) == after.duration == before.duration + 1
    assert (after.crc64, len(new)) == (crc64.xz(new), len(old) + 32_000)
    assert all(old[i : i + 1000] != new[i : i + 1000] for i in range(0, len(old), 1000))


def test_shared_audio_is_kept_when_another_task_is_replaced(book):
    tasks = book(0)
    mine, theirs = submit(tasks), submit(tasks)
    audio = tasks.audio(theirs)
    tasks.replace_audio(mine)
    assert tasks.audio(theirs) == audio
    assert tasks.audio(mine) != audio
    assert tasks.audio(submit(tasks)) == audio
