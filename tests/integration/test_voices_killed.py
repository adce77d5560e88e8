"""Tasks that clone a voice and are killed at any moment: never a second voice."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import time
from itertools import count

import pytest

from tests.batching import wait_until
from tests.clone_alone import STARTED, clone_voice
from tests.processes import ChildProcess
from tests.slow_cloning import SlowCloning
from tests.storing import make_wav

pytestmark = [pytest.mark.kill, pytest.mark.xdist_group("child_processes")]

ROUNDS = 8
KILLS_PER_ROUND = 2
MODES = {
    "reuse_with_store": ("reuse", True),
    "fail_with_store": ("fail", True),
    "create_with_store": ("create", True),
    "reuse_without_store": ("reuse", False),
}


@pytest.fixture
def mps(connect):
    with SlowCloning() as server:
        connect(server.connection_uri)
        server.clone_delay, server.response_delay = 0.4, 0.3
        yield server


@pytest.fixture
def sample(tmp_path):
    return str(make_wav(tmp_path / "ann.wav", 1))


class Cloning:
    """The attempts of one task instance."""

    def __init__(self, folder, sample, name, if_exists, *, has_store=True):
        folder.mkdir()
        self._folder = folder
        self._arguments = (sample, name, if_exists, folder / "store.json" if has_store else None)
        self._numbers = count(1)

    def start(self):
        """Start the next attempt, and return its process when the attempt itself has started."""
        number = next(self._numbers)
        output = self._folder / f"attempt-{number}.txt"
        process = ChildProcess(clone_voice, *self._arguments, number, output=output)
        wait_until(lambda: STARTED in process.printed or process.exit_code is not None)
        return process

    def finish(self):
        """Run the next attempt to its end."""
        with self.start() as process:
            printed = process.wait()
        assert "OUTCOME" in printed, printed[-3000:]
        return json.loads(printed.rpartition("OUTCOME ")[2].splitlines()[0]), printed


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.fixture
def make_cloning(tmp_path, sample):
    return lambda name, if_exists, **options: Cloning(tmp_path / name, sample, name, if_exists, **options)


@pytest.mark.parametrize("mode", MODES)
def test_clone_killed_at_random_moments_makes_one_voice(mps, make_cloning, mode):
    if_exists, has_store = MODES[mode]
    rng = random.Random(os.urandom(8))
    measured = make_cloning("measured", if_exists, has_store=has_store)
    with measured.start() as process:
        started_at = time.monotonic()
        process.wait()
        duration = time.monotonic() - started_at
    kills_while_cloning = 0
    for number in range(ROUNDS):
        name = f"voice-{number}"
        known = [mps.add_clone(name) for _ in range(2)] if if_exists == "create" else []
        cloning = make_cloning(name, if_exists, has_store=has_store)
        for _ in range(KILLS_PER_ROUND):
            with cloning.start() as process:
                # The rounds divide the attempt among them, so that each part of it has a kill.
                time.sleep(duration * (number + rng.random()) / ROUNDS)
                kills_while_cloning += not mps.is_idle
                kill(process)
            if not has_store:  # only the list of voices shows what the attempt has done
                wait_until(lambda: mps.is_idle)
        outcome, printed = cloning.finish()
        wait_until(lambda: mps.is_idle)
        new = [voice_id for voice_id in mps.list_clones(name) if voice_id not in known]
        assert len(new) == 1, printed
        assert (outcome["error"], outcome.get("voice_id")) == (None, new[0]), printed
    logging.getLogger(__name__).info("%s of %s kills met a request", kills_while_cloning, ROUNDS * KILLS_PER_ROUND)
    assert kills_while_cloning


@pytest.mark.parametrize("if_exists", ["reuse", "fail", "create"])
@pytest.mark.parametrize("moment", ["before_voice_exists", "after_voice_exists"])
def test_clone_killed_before_response_is_found_by_retry(mps, make_cloning, if_exists, moment):
    if moment == "before_voice_exists":
        mps.clone_delay, mps.response_delay = 2, 0
    else:
        mps.clone_delay, mps.response_delay = 0, 2
    cloning = make_cloning("ann", if_exists)
    with cloning.start() as process:
        wait_until(lambda: mps.actions["CloneVoice"] if moment == "before_voice_exists" else mps.list_clones("ann"))
        kill(process)
    assert len(mps.list_clones("ann")) == (moment == "after_voice_exists")
    with cloning.start() as process:  # a second kill, while it looks for the voice
        process.wait_until(lambda: "Looking for that voice" in process.printed)
        kill(process)
    outcome, printed = cloning.finish()
    assert [outcome["voice_id"]] == mps.list_clones("ann"), printed
    assert mps.actions["CloneVoice"] == 1
    assert "nothing was cloned again" in printed


def test_clone_killed_without_store_fails_if_it_must_be_new(mps, make_cloning):
    mps.clone_delay, mps.response_delay = 0, 2
    cloning = make_cloning("ann", "fail", has_store=False)
    with cloning.start() as process:
        wait_until(lambda: mps.list_clones("ann"))
        kill(process)
    outcome, _ = cloning.finish()
    assert outcome["error"] == "InvalidRequestError"
    assert mps.list_clones("ann")[0] in outcome["message"]
    assert mps.actions["CloneVoice"] == 1


def test_clone_not_sent_is_cloned_after_grace_period(mps, make_cloning, tmp_path):
    """A record alone does not keep a retry from cloning: the request may never have left the worker."""
    first = make_cloning("ann", "create")
    outcome, _ = first.finish()
    store = tmp_path / "ann" / "store.json"
    record = json.loads(store.read_text())
    (value,) = record.values()
    value.update(task_id=None, known_ids=[outcome["voice_id"]])
    store.write_text(json.dumps(record))
    again, printed = first.finish()
    assert mps.list_clones("ann") == [outcome["voice_id"], again["voice_id"]]
    assert "MPS has made no voice 'ann'" in printed
