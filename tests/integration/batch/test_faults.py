"""Batches that something goes wrong for: killed processes, an API that is down, a destination that is full."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from airflow_provider_mps.emulator.app import Options
from tests import faulty_emulator
from tests.batching import Clips, accepted, run_batch, wait_until
from tests.faulty_emulator import FaultyEmulator
from tests.gate import Gate
from tests.integration.test_storing_limits import on_a_small_disk

LINES = 200
KILLS = 10
DOWN = 15
"""Seconds."""


@pytest.fixture
def app(start_emulator, connect):
    app = FaultyEmulator(Options(synthesis_time=(0.5, 1.5), rate_limit=1000, voice="tone"))
    app.emulator = start_emulator(app)
    app.connection_uri = f"{app.emulator.connection_uri}&requests_per_second=25&timeout=3"
    connect(app.connection_uri)
    return app


@pytest.fixture(params=["file", "s3"])
def clips(request, tmp_path):
    if request.param == "s3":
        return Clips(f"{request.getfixturevalue('s3').root}batch/")
    return Clips(f"file://{tmp_path}/clips/")


def start(manifest, destination, *arguments, behind=()):
    command = [*behind, sys.executable, "-m", "tests.batch_alone", manifest, destination, *arguments]
    return subprocess.Popen(command, env=os.environ.copy(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def outcome(process, timeout=120):
    printed, _ = process.communicate(timeout=timeout)
    assert "OUTCOME" in printed, printed[-3000:]
    return json.loads(printed.rpartition("OUTCOME ")[2].splitlines()[0])


def test_ten_times_killed_outright_at_random_moments_every_line_is_paid_once_and_none_is_lost(app, manifest, clips):
    chance = random.Random(os.urandom(8))
    lines = manifest(LINES)
    # A process takes some seconds to start.
    kills = KILLS if clips.destination.startswith("file") else KILLS // 2
    for kill in range(kills):
        before = len(app.actions)
        process = start(lines, clips.destination)
        wait_until(lambda: len(app.actions) > before or process.poll() is not None, 60)  # noqa: B023
        time.sleep(chance.uniform(0, 1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert max(accepted(app.app).values(), default=1) == 1, f"after kill {kill + 1}"
    ended = outcome(start(lines, clips.destination))
    paid = accepted(app.app)
    statuses = clips.statuses()
    assert set(paid.values()) == {1}
    # What was being sent when it was killed is told as unknown, whether it was accepted or not: nobody can know.
    assert set(statuses) <= {"stored", "unknown"}
    assert sum(statuses.values()) == len({row["id"] for row in clips.rows()}) == LINES
    logging.getLogger(__name__).info("%s of %s lines are unknown after %s kills", statuses["unknown"], LINES, kills)
    assert statuses["unknown"] <= 5 * kills
    assert (ended["error"] is None) == (statuses["unknown"] == 0)
    assert {row["line"] for row in clips.rows()} == set(range(1, LINES + 1))
    clips.require_true()

    # Who accepts to pay for those again gets all.
    ended = outcome(start(lines, clips.destination, "--on-unknown", "resubmit"))
    assert ended["told"]["stored"] == LINES
    again = accepted(app.app)
    assert sum(again.values()) - sum(paid.values()) == statuses["unknown"]
    clips.require_true()


def test_a_batch_that_airflow_ends_waits_for_what_it_has_sent_and_the_next_try_goes_on(app, manifest, clips):
    # So many that no try can have done all before it is told to end.
    lines = manifest(300)
    for _ in range(3):
        before = len(app.actions)
        process = start(lines, clips.destination)
        wait_until(lambda: app.actions[before:].count("TextToSpeechAsync") >= 15)  # noqa: B023
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        ended = outcome(process, 20)
        assert time.monotonic() - started < 10
        assert "was stopped by Airflow" in ended["said"], ended
        assert set(clips.statuses()) <= {"pending", "processing", "stored"}
    assert outcome(start(lines, clips.destination))["told"]["stored"] == 300
    assert set(accepted(app.app).values()) == {1}
    clips.require_true()


def test_an_api_that_is_down_in_the_middle_costs_no_more_than_what_was_on_its_way(app, manifest, tmp_path, connect):
    clips = Clips(f"file://{tmp_path}/clips/")
    with Gate(app.emulator.port) as gate:
        connect(app.connection_uri.replace(f":{app.emulator.port}/", f":{gate.port}/"))

        def interrupt():
            wait_until(lambda: app.actions.count("TextToSpeechAsync") >= 40)
            gate.shut()
            time.sleep(DOWN)
            gate.open()

        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        told = run_batch(manifest(100), clips.destination, on_line_failure="continue")
        interrupting.join()
    assert told["stored"] + told["unknown"] == 100
    assert told["unknown"] <= 3
    assert max(accepted(app.app).values()) == 1
    clips.require_true()


def test_answers_that_are_no_answers_in_the_middle_risk_a_few_lines_and_not_all_that_come(app, manifest, tmp_path):
    clips = Clips(f"file://{tmp_path}/clips/")
    broken_until = [0.0]

    def fault(number):
        if number == 40:
            broken_until[0] = time.monotonic() + 8
        return (502, b"bad gateway") if time.monotonic() < broken_until[0] else None

    app.faults_of = fault
    told = run_batch(manifest(100), clips.destination, on_line_failure="continue")
    assert told["stored"] + told["unknown"] == 100
    assert 0 < told["unknown"] <= 5
    assert max(accepted(app.app).values()) == 1
    unknown = [row for row in clips.rows() if row["status"] == "unknown"]
    assert all("HTTP 502" in row["error"] and "may be billed already" in row["error"] for row in unknown)
    clips.require_true()


def test_throttled_submits_are_submitted_again(app, manifest, tmp_path):
    clips = Clips(f"file://{tmp_path}/clips/")
    app.faults_of = lambda number: faulty_emulator.api_error("RequestLimitExceeded") if number % 10 == 0 else None
    assert run_batch(manifest(40), clips.destination)["stored"] == 40
    assert set(accepted(app.app).values()) == {1}
    clips.require_true()


def test_a_destination_that_fills_up_stops_the_batch_and_when_it_has_room_again_it_goes_on(app, manifest, tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    full = ("--fill", "1200000", "--then-remove", f"{folder}/filler", "--files-of", f"{folder}/clips")
    process = start(manifest(40), f"file://{folder}/clips/", *full, behind=on_a_small_disk(folder))
    printed, _ = process.communicate(timeout=120)
    assert printed.count("OUTCOME") == 2, printed[-3000:]
    first, second = (json.loads(told.splitlines()[0]) for told in printed.split("OUTCOME ")[1:])

    assert first["error"] in {"AudioTransferError", "DestinationError"}
    assert "No space left on device" in printed
    statuses = Counter(row["status"] for row in first["rows"])
    assert 5 < statuses["stored"] < 40
    names = {row["path"].rpartition("/")[2] for row in first["rows"] if row["status"] == "stored"}
    assert names == {name for name in first["files"] if name.endswith(".wav")}
    assert statuses["submitting"] == statuses["unknown"] == 0  # every id that was paid for has been written down

    assert second["error"] is None
    assert second["told"]["stored"] == 40
    assert set(accepted(app.app).values()) == {1}


def test_two_thousand_lines_at_a_raised_quota_are_stored_and_none_is_paid_twice():
    from tests.integration.test_benchmarks import rows, run_benchmark

    output = run_benchmark("benchmarks.bulk", "--lines", "2000", "--quota", "100", "--synthesis", "3", "9", timeout=300)
    (measured,) = rows(output, "2000")
    # On a machine that stands still for seconds an answer may be lost; that line is told as unknown.
    assert int(measured[2]) >= 1995
    assert measured[7] == "0"  # duplicates
