import logging
import time

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.audio import store_audio
from airflow_provider_mps.transfer import progress
from airflow_provider_mps.transfer.progress import Progress, progress_line
from airflow_provider_mps.transfer.uncommitted.local import LocalFile
from tests.scripted_server import ScriptedServer, audio_reply

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("received", "length", "speed", "line"),
    [
        (25 * MIB, 100 * MIB, 5 * MIB, "task 1: 25 % of 100.0 MiB moved, 5.0 MiB/s, 0:00:15 left"),
        (99 * MIB, 100 * MIB, 0, "task 1: 99 % of 100.0 MiB moved, 0.0 MiB/s"),
        (MIB, MIB, 0, "task 1: all of 1.0 MiB has arrived, and its store takes the last of it"),
        (3 * MIB, None, MIB, "task 1: 3.0 MiB moved, 1.0 MiB/s"),
    ],
)
def test_a_line_tells_share_speed_and_time_left_as_far_as_they_are_known(received, length, speed, line):
    assert progress_line("task 1", received, length, speed) == line


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


def lines_after(clock, seconds, log):
    told = Progress("task 1", log)
    for now in range(seconds + 1):
        clock.now = now
        told.tell(now * MIB, 100 * MIB)
    return log.lines


def test_what_takes_a_few_seconds_is_not_told_of(clock):
    assert lines_after(clock, 4, Log()) == []


def test_what_takes_longer_is_told_of_every_ten_seconds(clock):
    lines = lines_after(clock, 36, Log())
    assert [line.split(" %")[0] for line in lines] == ["task 1: 5", "task 1: 15", "task 1: 25", "task 1: 35"]
    assert all("1.0 MiB/s" in line for line in lines)


def test_an_upload_that_takes_its_time_after_the_last_byte_has_arrived_is_told_of(clock):
    log = Log()
    told = Progress("task 1", log)
    told.tell(MIB, MIB)
    for clock.now in range(20):
        told.tell_again()
    assert len(log.lines) == 2
    assert all("its store takes the last of it" in line for line in log.lines)


def test_storing_tells_of_its_store_while_that_takes_its_time(clock, caplog, monkeypatch, tmp_path):
    commit, line = LocalFile.commit, "task 1: all of 1.0 MiB has arrived, and its store takes the last of it"

    def commit_when_told(file):
        clock.now, ends = 6.0, time.monotonic() + 60
        while line not in caplog.text and time.monotonic() < ends:
            time.sleep(0.01)
        return commit(file)

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(LocalFile, "commit", commit_when_told)
    with ScriptedServer(audio_reply(bytes(MIB))) as server:
        path = ObjectStoragePath(f"file://{tmp_path}/a.wav")
        store_audio(server.url, path, fresh_url=str, subject="task 1", log=logging.getLogger())
    assert line in caplog.text


def test_an_audio_that_begins_anew_has_no_negative_speed(clock):
    log = Log()
    told = Progress("task 1", log)
    for now, received in ((6, 50), (17, 1)):
        clock.now = now
        told.tell(received * MIB, 100 * MIB)
    assert "1 % of 100.0 MiB moved, 0.0 MiB/s" in log.lines[-1]
