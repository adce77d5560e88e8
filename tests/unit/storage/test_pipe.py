import signal
import threading
from collections import Counter

import pytest

from airflow_provider_mps.storage import pipe as module
from airflow_provider_mps.storage.pipe import Pipe
from airflow_provider_mps.storage.writers.base import WriteReceipt

BLOCK = 100


class MemoryWriter:
    """A writer in memory whose writes can be made to wait or to fail."""

    can_hang = True

    def __init__(self, fails_at=None):
        self.blocks = []
        self.committed = False
        self.discards = 0
        self.gate = threading.Event()
        self.gate.set()
        self.threads = set()
        self._fails_at = fails_at
        self.commit_gate = None

    def get_block_size(self, sent):
        return BLOCK if sent < 10 * BLOCK else 2 * BLOCK

    def write(self, block):
        self.threads.add(threading.current_thread().name)
        self.gate.wait(60)
        if self._fails_at == len(self.blocks):
            raise OSError("no space left")
        self.blocks.append(bytes(block))

    def commit(self):
        if self.commit_gate:
            self.commit_gate.wait(60)
        self.committed = True
        return WriteReceipt(size=sum(map(len, self.blocks)))

    def discard(self):
        self.discards += 1
        self.gate.set()


def no_check():
    pass


@pytest.mark.parametrize("sizes", [[], [1], [BLOCK], [BLOCK - 1, 2, 250], [7] * 100, [5000]])
def test_pipe_delivers_bytes_in_blocks_of_writer_size(sizes):
    writer, sent = MemoryWriter(), b""
    pipe = Pipe(writer, no_check)
    for number, size in enumerate(sizes):
        piece = bytes([number]) * size
        pipe.write(piece)
        sent += piece
    assert pipe.commit() == WriteReceipt(size=len(sent))
    assert b"".join(writer.blocks) == sent
    position = 0
    for block in writer.blocks[:-1]:
        assert len(block) == writer.get_block_size(position)
        position += len(block)


def test_download_and_upload_overlap():
    writer = MemoryWriter()
    writer.gate.clear()
    pipe = Pipe(writer, no_check)
    pipe.write(bytes(2 * BLOCK))  # returns without waiting for the upload
    writer.gate.set()
    pipe.commit()
    assert writer.threads == {"mps-upload"}


def test_pipe_holds_at_most_three_blocks():
    writer = MemoryWriter()
    writer.gate.clear()
    accepted, waited = [], threading.Event()
    waits = Counter()

    def record_wait():
        waits[len(accepted)] += 1
        if waits[len(accepted)] > 1:
            waited.set()

    pipe = Pipe(writer, record_wait)

    def write():
        for _ in range(10):
            pipe.write(bytes(BLOCK))
            accepted.append(BLOCK)

    writing = threading.Thread(target=write, daemon=True)
    writing.start()
    assert waited.wait(60)
    assert len(accepted) <= 3
    writer.gate.set()
    writing.join(60)
    pipe.commit()
    assert len(writer.blocks) == 10


def test_hanging_commit_ends_at_deadline():
    writer = MemoryWriter()
    writer.commit_gate = threading.Event()
    pipe = Pipe(writer, time_is_up)
    pipe.write(b"short")
    with pytest.raises(TimeIsUpError):
        pipe.commit()
    writer.commit_gate.set()
    pipe.discard()


def test_hanging_discard_times_out(monkeypatch):
    monkeypatch.setattr(module, "DISCARD_TIMEOUT_SECONDS", 0.5)
    writer, hanging = MemoryWriter(), threading.Event()
    writer.discard = lambda: hanging.wait(30)
    pipe = Pipe(writer, no_check)
    pipe.write(bytes(BLOCK))
    with pytest.raises(TimeoutError, match=r"has not responded for 0\.5 seconds"):
        pipe.discard()
    hanging.set()


def test_interrupted_discard_is_finished_by_upload_thread(monkeypatch):
    writer = MemoryWriter()
    writer.gate.clear()
    pipe = Pipe(writer, no_check)
    pipe.write(bytes(BLOCK))
    pipe.write(b"more")

    def interrupted(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pipe, "_has_ended", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pipe.discard()
    assert writer.discards == 0
    writer.gate.set()
    assert pipe._has_ended(10)
    assert writer.discards == 1
    assert not writer.committed


def test_discard_can_be_repeated():
    writer = MemoryWriter()
    pipe = Pipe(writer, no_check)
    pipe.write(bytes(2 * BLOCK))
    pipe.discard()
    pipe.discard()
    assert writer.discards == 2


def raise_time_is_up(*_):
    raise TimeIsUpError


def test_signal_at_any_moment_leaves_discardable_pipe():
    before = signal.signal(signal.SIGALRM, raise_time_is_up)
    try:
        for trial in range(150):
            writer = MemoryWriter()
            pipe = Pipe(writer, no_check)
            with pytest.raises(TimeIsUpError):
                set_alarm_and_write(pipe, 0.0005 + trial * 0.00003)
            pipe.discard()
            assert writer.discards
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def set_alarm_and_write(pipe, seconds):
    signal.setitimer(signal.ITIMER_REAL, seconds)
    while True:
        pipe.write(bytes(BLOCK))


def write_and_commit(pipe, blocks):
    for _ in range(blocks):
        pipe.write(bytes(BLOCK))
    pipe.commit()


@pytest.mark.parametrize("written", [3 * BLOCK, 10 * BLOCK])
def test_upload_error_is_raised_by_next_call(written):
    pipe = Pipe(MemoryWriter(fails_at=1), no_check)
    with pytest.raises(OSError, match="no space left"):
        write_and_commit(pipe, written // BLOCK)


def test_failed_upload_is_not_committed():
    writer = MemoryWriter(fails_at=0)
    pipe = Pipe(writer, no_check)
    pipe.write(bytes(BLOCK))
    with pytest.raises(OSError, match="no space left"):
        pipe.commit()
    assert not writer.committed


class TimeIsUpError(Exception):
    pass


def time_is_up():
    raise TimeIsUpError


@pytest.mark.parametrize("blocks", [1, 10], ids=["commit", "write"])
def test_hanging_upload_ends_at_deadline(blocks):
    writer = MemoryWriter()
    writer.gate.clear()
    pipe = Pipe(writer, time_is_up)
    with pytest.raises(TimeIsUpError):
        write_and_commit(pipe, blocks)
    pipe.discard()


@pytest.mark.parametrize("written", [0, 5, 2 * BLOCK])
def test_discard_reaches_writer(written):
    writer = MemoryWriter()
    pipe = Pipe(writer, no_check)
    pipe.write(bytes(written))
    pipe.discard()
    assert writer.discards
    assert not writer.committed


def test_discard_of_hanging_upload_discards_late_writes():
    writer = MemoryWriter()
    writer.gate.clear()
    pipe = Pipe(writer, no_check)
    pipe.write(bytes(2 * BLOCK))
    pipe.discard()
    assert pipe._has_ended(60)
    assert writer.discards == 2


@pytest.mark.parametrize(("length", "sizes"), [(None, [BLOCK // 2]), (BLOCK // 2, [20, 30]), (None, [BLOCK])])
def test_file_of_one_block_is_written_and_committed_in_one_step(monkeypatch, length, sizes):
    started = []
    monkeypatch.setattr(module, "start_in_worker_thread", lambda run, _: started.append(True) or run())
    writer = MemoryWriter()
    pipe = Pipe(writer, no_check, length)
    for size in sizes:
        pipe.write(bytes(size))
    assert (started, writer.blocks) == ([], [])
    assert pipe.commit() == WriteReceipt(size=sum(sizes))
    assert started == [True]


def test_small_file_of_writer_that_cannot_hang_is_written_in_calling_thread():
    writer = MemoryWriter()
    writer.can_hang = False
    pipe = Pipe(writer, no_check)
    pipe.write(bytes(BLOCK))
    assert pipe.commit() == WriteReceipt(size=BLOCK)
    assert writer.threads == {threading.current_thread().name}


def test_large_file_of_writer_that_cannot_hang_is_written_in_second_thread():
    writer = MemoryWriter()
    writer.can_hang = False
    pipe = Pipe(writer, no_check)
    pipe.write(bytes(BLOCK))
    pipe.write(bytes(BLOCK))
    assert pipe.commit() == WriteReceipt(size=2 * BLOCK)
    assert writer.threads == {"mps-upload"}


def test_error_of_writer_in_calling_thread_is_raised_and_nothing_committed():
    writer = MemoryWriter(fails_at=0)
    writer.can_hang = False
    pipe = Pipe(writer, no_check)
    pipe.write(b"audio")
    with pytest.raises(OSError, match="no space left"):
        pipe.commit()
    pipe.discard()
    assert (writer.committed, writer.discards) == (False, 1)
