"""A bounded pipe from a download to an upload in another thread."""

from __future__ import annotations

import queue
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from airflow_provider_mps.concurrency import SIGNAL_CHECK_SECONDS, call_interruptibly, start_in_worker_thread
from airflow_provider_mps.storage.writers.base import BlockBuffer

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_mps.storage.writers.base import AtomicWriter, WriteReceipt

UPLOAD_GRACE_SECONDS = 2.0
"""How long a discard waits for a running write to end; Airflow kills a task five seconds after SIGTERM."""
DISCARD_TIMEOUT_SECONDS = 12.0
"""How long a discard may take; its caller has another error to report."""


class Pipe:
    """
    Fills blocks in the calling thread; writes and commits them in a second thread.

    One block is filled while one waits and one is written. An error of the second thread is raised by the next call.
    A file of one block is written at the commit: in the calling thread, unless a call of its writer may hang.
    A wait ends when ``check`` or a signal handler raises; only a ``SimpleQueue`` still works after the latter.

    :param check: called while waiting; raises to end the wait, e.g. after a deadline
    :param length: bytes that will be written, if known
    """

    def __init__(self, writer: AtomicWriter, check: Callable[[], None], length: int | None = None) -> None:
        self._writer = writer
        self._check = check
        self._blocks: queue.SimpleQueue[bytearray | None] = queue.SimpleQueue()
        self._slots: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._slots.put(None)  # for the one block that may wait
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._buffer = BlockBuffer(writer, length)
        self._receipt: WriteReceipt | None = None
        self._error: BaseException | None = None
        self._is_discarded = False
        self._is_abandoned = False
        self._is_started = False  # the second thread

    def write(self, data: bytes) -> None:
        """Append bytes; wait if the upload is slower than the download."""
        if self._slots.empty():
            self._start_thread()
        for block in self._buffer.fill(data):
            self._send(block)

    def commit(self) -> WriteReceipt:
        """Write the rest, commit the file, and return what the storage has confirmed."""
        if rest := self._buffer.get_rest():
            self._send(rest)
        self._blocks.put(None)
        if self._is_started or self._writer.can_hang:
            self._start_thread()
        else:
            self._run()
        while not self._has_ended(SIGNAL_CHECK_SECONDS):
            self._check()
        self._raise_error()
        assert self._receipt is not None  # noqa: S101 - the thread has committed, or there was an error
        return self._receipt

    def discard(self) -> None:
        """Discard what was written; may be called again after an interruption."""
        self._is_discarded = True
        self._blocks.put(None)  # also ends a thread whose start was interrupted
        if self._is_started:
            # A thread that still hangs discards by itself when its write returns.
            try:
                self._is_abandoned = not self._has_ended(UPLOAD_GRACE_SECONDS)
            except BaseException:  # raised by a signal handler
                self._is_abandoned = True
                raise
        deadline = time.monotonic() + DISCARD_TIMEOUT_SECONDS

        def check_deadline() -> None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the storage has not responded for {DISCARD_TIMEOUT_SECONDS:g} seconds")

        call_interruptibly(self._writer.discard, check_deadline)

    def _send(self, block: bytearray) -> None:
        if self._slots.empty():
            self._start_thread()
        while True:
            self._raise_error()
            with suppress(queue.Empty):
                self._slots.get(timeout=SIGNAL_CHECK_SECONDS)
                self._blocks.put(block)
                return
            self._check()

    def _start_thread(self) -> None:
        """Start the second thread: not before a block waits and more follows, or the file is complete."""
        if not self._is_started:
            self._is_started = True
            start_in_worker_thread(self._run, "mps-upload")

    def _has_ended(self, timeout: float) -> bool:
        with suppress(queue.Empty):
            self._ended.get(timeout=timeout)
            self._ended.put(None)  # for the next call
            return True
        return False

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while (block := self._blocks.get()) is not None and not self._is_discarded:
                self._slots.put(None)
                self._buffer.reuse(self._writer.write(block))
                del block
            if not self._is_discarded:
                self._receipt = self._writer.commit()
        except BaseException as error:  # noqa: BLE001 - raised in the other thread
            self._error = error
        if self._is_abandoned:
            with suppress(Exception):
                self._writer.discard()
        self._slots.put(None)  # wakes a waiting `_send`, which raises the error
        self._ended.put(None)
