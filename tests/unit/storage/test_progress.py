import logging
import time

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.storage import progress
from airflow_provider_mps.storage.progress import Progress, format_progress
from airflow_provider_mps.storage.transfer import store_audio
from airflow_provider_mps.storage.writers.local import LocalWriter
from tests.scripted_server import ScriptedServer, make_audio_reply

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("received", "length", "speed", "line"),
    [
        (25 * MIB, 100 * MIB, 5 * MIB, "task 1: 25 % of 100.0 MiB received, 5.0 MiB/s, 0:00:15 left"),
        (99 * MIB, 100 * MIB, 0, "task 1: 99 % of 100.0 MiB received, 0.0 MiB/s"),
        (MIB, MIB, 0, "task 1: all 1.0 MiB received, waiting for the upload to finish"),
        (3 * MIB, None, MIB, "task 1: 3.0 MiB received, 1.0 MiB/s"),
    ],
)
def test_format_progress_shows_known_values(received, length, speed, line):
    assert format_progress("task 1", received, length, speed) == line


class Log:
    def __init__(self):
        self.lines = []

    def info(self, message, *args):
        self.lines.append(message % args)


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def log_lines_after(clock, seconds, log):
    progress_log = Progress("task 1", log)
    for now in range(seconds + 1):
        clock.now = now
        progress_log.update(now * MIB, 100 * MIB)
    return log.lines


def test_progress_of_short_transfer_logs_nothing(clock):
    assert log_lines_after(clock, 4, Log()) == []


def test_progress_of_long_transfer_logs_every_ten_seconds(clock):
    lines = log_lines_after(clock, 36, Log())
    assert [line.split(" %")[0] for line in lines] == ["task 1: 5", "task 1: 15", "task 1: 25", "task 1: 35"]
    assert all("1.0 MiB/s" in line for line in lines)


def test_progress_logs_slow_upload_after_last_byte(clock):
    log = Log()
    progress_log = Progress("task 1", log)
    progress_log.update(MIB, MIB)
    for clock.now in range(20):
        progress_log.log_if_due()
    assert len(log.lines) == 2
    assert all("waiting for the upload to finish" in line for line in log.lines)


def test_store_audio_logs_progress_during_slow_commit(clock, caplog, monkeypatch, tmp_path):
    commit, line = LocalWriter.commit, "task 1: all 1.0 MiB received, waiting for the upload to finish"

    def commit_after_log_line(file):
        clock.now, ends_at = 6.0, time.monotonic() + 60
        while line not in caplog.text and time.monotonic() < ends_at:
            time.sleep(0.01)
        return commit(file)

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(LocalWriter, "commit", commit_after_log_line)
    monkeypatch.setattr(LocalWriter, "can_hang", True)  # as on a network file system
    with ScriptedServer(make_audio_reply(bytes(MIB))) as server:
        path = ObjectStoragePath(f"file://{tmp_path}/a.wav")
        store_audio(server.url, path, get_fresh_url=str, subject="task 1", log=logging.getLogger())
    assert line in caplog.text


def test_progress_after_restart_has_no_negative_speed(clock):
    log = Log()
    progress_log = Progress("task 1", log)
    for now, received in ((6, 50), (17, 1)):
        clock.now = now
        progress_log.update(received * MIB, 100 * MIB)
    assert "1 % of 100.0 MiB received, 0.0 MiB/s" in log.lines[-1]
