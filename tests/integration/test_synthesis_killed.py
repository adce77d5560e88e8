"""Tasks that speak a short text and are killed at any moment: it is billed once, and stored or reported."""

from __future__ import annotations

import json
import logging
import random
import signal
import time
from itertools import count

import pytest
import soundfile

from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.emulator.faults import AudioFault, FaultKind
from tests.batching import wait_until
from tests.clone_alone import STARTED
from tests.faulty_emulator import FaultyEmulator
from tests.processes import ChildProcess
from tests.synthesize_alone import synthesize

pytestmark = [pytest.mark.kill, pytest.mark.xdist_group("child_processes")]

ROUNDS = 12


class Attempts:
    """The attempts of one task instance."""

    def __init__(self, folder):
        folder.mkdir()
        self._folder = folder
        self.clip = folder / "clips/clip.wav"
        self.store = folder / "store.json"
        self._numbers = count(1)

    def start(self):
        """Start the next attempt, and return its process when the attempt itself has started."""
        number = next(self._numbers)
        output = self._folder / f"attempt-{number}.txt"
        process = ChildProcess(synthesize, f"file://{self.clip}", self.store, number, output=output)
        wait_until(lambda: STARTED in process.printed or process.exit_code is not None)
        return process

    def finish(self):
        """Run the next attempt to its end."""
        with self.start() as process:
            printed = process.wait()
        assert "OUTCOME" in printed, printed[-3000:]
        return json.loads(printed.rpartition("OUTCOME ")[2].splitlines()[0])

    def has_url(self):
        record = json.loads(self.store.read_text()).get("mps_synthesis") if self.store.exists() else None
        return bool(record and record["audio_url"])


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.fixture
def start_mps(start_emulator):
    def start(**options):
        app = FaultyEmulator(Options(synthesis_time=0.0, voice="tone", **options))
        start_emulator(app)
        return app

    return start


def test_sigkill_between_call_and_storing_bills_once(start_mps, tmp_path):
    mps = start_mps(audio_faults=(AudioFault(FaultKind.STALL, 1),))
    attempts = Attempts(tmp_path / "task")
    with attempts.start() as process:
        wait_until(attempts.has_url)
        kill(process)
    assert not attempts.clip.exists()
    outcome = attempts.finish()
    assert outcome["error"] is None
    assert mps.actions == ["TextToSpeech"]
    assert soundfile.info(str(attempts.clip)).duration == 20
    assert [path.name for path in attempts.clip.parent.iterdir()] == ["clip.wav"]


def test_sigkill_during_call_is_unknown_and_bills_once(start_mps, tmp_path):
    mps = start_mps(latency=1.0)
    attempts = Attempts(tmp_path / "task")
    with attempts.start() as process:
        wait_until(lambda: mps.actions)
        kill(process)
    outcome = attempts.finish()
    assert outcome["error"] == "AirflowFailException"
    assert "It is unknown whether MPS accepted the text" in outcome["message"]
    assert mps.actions == ["TextToSpeech"]


def test_sigkill_at_any_moment_bills_once(start_mps, tmp_path):
    mps = start_mps(latency=0.3)
    measured = Attempts(tmp_path / "measured")
    with measured.start() as process:
        started_at = time.monotonic()
        process.wait()
        duration = time.monotonic() - started_at
    states = []
    for number in range(ROUNDS):
        mps.actions.clear()
        attempts = Attempts(tmp_path / f"task-{number}")
        with attempts.start() as process:
            # The rounds divide the attempt among them, so that each part of it has a kill.
            time.sleep(duration * (number + random.random()) / ROUNDS)
            kill(process)
        states.append("spoken" if attempts.has_url() else "sent" if mps.actions else "before")
        outcome = attempts.finish()
        if outcome["error"] is None:
            assert mps.actions == ["TextToSpeech"]
            assert soundfile.info(str(attempts.clip)).duration == 20
        else:
            # A kill between the record and the request looks the same to the retry.
            assert "It is unknown whether MPS accepted the text" in outcome["message"]
            assert len(mps.actions) <= 1
            assert not attempts.clip.exists()
    logging.getLogger(__name__).info("Kills: %s", states)
    assert set(states) & {"spoken", "sent"}
