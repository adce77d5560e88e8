import signal
import threading
from collections import Counter

import pytest

from airflow_provider_mps.transfer import pipe as module
from airflow_provider_mps.transfer.pipe import Pipe
from airflow_provider_mps.transfer.uncommitted.told import Told

BLOCK = 100


class File:
    """An uncommitted file in memory whose writes can be made to wait or to fail."""

    def __init__(self, fails_at=None):
        self.blocks = []
        self.committed = False
        self.discards = 0
        self.gate = threading.Event()
        self.gate.set()
        self.threads = set()
        self._fails_at = fails_at
        self.commits_when = None

    def block_size(self, sent):
        return BLOCK if sent < 10 * BLOCK else 2 * BLOCK

    def write(self, block):
        self.threads.add(threading.current_thread().name)
        self.gate.wait(60)
        if self._fails_at == len(self.blocks):
            raise OSError("no space left")
        self.blocks.append(bytes(block))

    def commit(self):
        if self.commits_when:
            self.commits_when.wait(60)
        self.committed = True
        return Told(size=sum(map(len, self.blocks)))

    def discard(self):
        self.discards += 1
        self.gate.set()


def nothing():
    pass


@pytest.mark.parametrize("sizes", [[], [1], [BLOCK], [BLOCK - 1, 2, 250], [7] * 100, [5000]])
def test_everything_arrives_in_order_in_blocks_of_the_files_size_but_for_the_last(sizes):
    file, sent = File(), b""
    pipe = Pipe(file, nothing)
    for number, size in enumerate(sizes):
        piece = bytes([number]) * size
        pipe.write(piece)
        sent += piece
    assert pipe.commit() == Told(size=len(sent))
    assert b"".join(file.blocks) == sent
    position = 0
    for block in file.blocks[:-1]:
        assert len(block) == file.block_size(position)
        position += len(block)


def test_download_and_upload_overlap():
    file = File()
    file.gate.clear()
    pipe = Pipe(file, nothing)
    pipe.write(bytes(2 * BLOCK))  # would never return if it waited for the upload
    file.gate.set()
    pipe.commit()
    assert file.threads == {"mps-upload"}


def test_no_more_than_a_few_blocks_lie_between_them():
    file = File()
    file.gate.clear()
    accepted, waited = [], threading.Event()
    looks = Counter()

    def note_waiting():
        looks[len(accepted)] += 1
        if looks[len(accepted)] > 1:
            waited.set()

    pipe = Pipe(file, note_waiting)

    def write():
        for _ in range(10):
            pipe.write(bytes(BLOCK))
            accepted.append(BLOCK)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    assert waited.wait(60)
    assert len(accepted) <= 3
    file.gate.set()
    writer.join(60)
    pipe.commit()
    assert len(file.blocks) == 10


def test_a_commit_that_hangs_does_not_outlast_the_deadline_either():
    file = File()
    file.commits_when = threading.Event()
    pipe = Pipe(file, time_is_up)
    pipe.write(b"short")
    with pytest.raises(TimeIsUpError):
        pipe.commit()
    file.commits_when.set()
    pipe.discard()


def test_a_discard_that_hangs_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(module, "DISCARD_PATIENCE", 0.5)
    file, hanging = File(), threading.Event()
    file.discard = lambda: hanging.wait(30)
    pipe = Pipe(file, nothing)
    pipe.write(bytes(BLOCK))
    with pytest.raises(TimeoutError, match=r"has not answered for 0\.5 seconds"):
        pipe.discard()
    hanging.set()


def test_a_thread_that_hangs_when_a_signal_ends_the_discard_discards_by_itself(monkeypatch):
    file = File()
    file.gate.clear()
    pipe = Pipe(file, nothing)
    pipe.write(bytes(BLOCK))

    def interrupted(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pipe, "_has_ended", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pipe.discard()
    assert file.discards == 0
    file.gate.set()
    assert pipe._has_ended(10)
    assert file.discards == 1
    assert not file.committed


def test_a_discard_can_be_called_again():
    file = File()
    pipe = Pipe(file, nothing)
    pipe.write(bytes(2 * BLOCK))
    pipe.discard()
    pipe.discard()
    assert file.discards == 2


def alarm(*_):
    raise TimeIsUpError


def test_a_signal_at_any_moment_gets_out_and_leaves_a_pipe_that_can_be_discarded():
    before = signal.signal(signal.SIGALRM, alarm)
    try:
        for trial in range(150):
            file = File()
            pipe = Pipe(file, nothing)
            with pytest.raises(TimeIsUpError):
                set_alarm_and_write_for_ever(pipe, 0.0005 + trial * 0.00003)
            pipe.discard()
            assert file.discards
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def set_alarm_and_write_for_ever(pipe, seconds):
    signal.setitimer(signal.ITIMER_REAL, seconds)
    while True:
        pipe.write(bytes(BLOCK))


def write_and_commit(pipe, blocks):
    for _ in range(blocks):
        pipe.write(bytes(BLOCK))
    pipe.commit()


@pytest.mark.parametrize("written", [3 * BLOCK, 10 * BLOCK])
def test_what_goes_wrong_in_the_upload_is_raised_here(written):
    pipe = Pipe(File(fails_at=1), nothing)
    with pytest.raises(OSError, match="no space left"):
        write_and_commit(pipe, written // BLOCK)


def test_nothing_is_committed_after_something_went_wrong():
    file = File(fails_at=0)
    pipe = Pipe(file, nothing)
    pipe.write(bytes(BLOCK))
    with pytest.raises(OSError, match="no space left"):
        pipe.commit()
    assert not file.committed


class TimeIsUpError(Exception):
    pass


def time_is_up():
    raise TimeIsUpError


@pytest.mark.parametrize("blocks", [1, 10], ids=["when committing", "when writing"])
def test_an_upload_that_hangs_does_not_outlast_the_deadline(blocks):
    file = File()
    file.gate.clear()
    pipe = Pipe(file, time_is_up)
    with pytest.raises(TimeIsUpError):
        write_and_commit(pipe, blocks)
    pipe.discard()


@pytest.mark.parametrize("written", [0, 5, 2 * BLOCK])
def test_a_discard_reaches_the_file(written):
    file = File()
    pipe = Pipe(file, nothing)
    pipe.write(bytes(written))
    pipe.discard()
    assert file.discards
    assert not file.committed


def test_a_discard_ends_an_upload_that_hangs_and_what_it_writes_late_is_discarded_too():
    file = File()
    file.gate.clear()
    pipe = Pipe(file, nothing)
    pipe.write(bytes(2 * BLOCK))
    pipe.discard()
    pipe._thread.join(60)
    assert not pipe._thread.is_alive()
    assert file.discards == 2
