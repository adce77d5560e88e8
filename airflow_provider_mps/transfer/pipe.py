"""From a download to an upload that runs beside it, with a bounded number of bounded blocks between them."""

from __future__ import annotations

import queue
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from airflow_provider_mps.own_thread import start_daemon_thread
from airflow_provider_mps.transfer.waited_for import LOOK, waited_for

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from airflow_provider_mps.transfer.uncommitted import UncommittedFile
    from airflow_provider_mps.transfer.uncommitted.told import Told

PATIENCE = 2.0
"""Seconds that an upload in the middle of a write may take to end by itself: Airflow kills a task after five."""
DISCARD_PATIENCE = 12.0
"""Seconds that discarding may take: whoever discards has something else to report."""


class Pipe:
    """
    Fills blocks here, and writes and commits them to an uncommitted file in a thread of its own.

    Besides the block that is being filled, one waits; what goes wrong in the thread is raised by the next call here.
    Whatever waits here ends when the time is up, or when a signal's handler raises: the queues are the ones that
    outlive that, which those with a limit, and ``Thread.join``, do not.

    :param file: where to write
    :param still_wanted: called while waiting for the thread; raises when the time is up
    """

    def __init__(self, file: UncommittedFile, still_wanted: Callable[[], None]) -> None:
        self._file = file
        self._still_wanted = still_wanted
        self._blocks: queue.SimpleQueue[bytearray | None] = queue.SimpleQueue()
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._room.put(None)  # for the one block that may wait
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._handed_over = 0
        # To be filled again: new memory for each block would cost a third more time, for the kernel clears it first.
        self._spare: deque[bytearray] = deque()
        self._block = self._empty_block()
        self._filled = 0
        self._told: Told | None = None
        self._error: BaseException | None = None
        self._unwanted = False
        self._abandoned = False
        self._thread: threading.Thread | None = None

    def write(self, data: bytes) -> None:
        """Append bytes; waits where the upload is slower than the download."""
        rest = memoryview(data)
        while rest:
            taken = min(len(rest), len(self._block) - self._filled)
            self._block[self._filled : self._filled + taken] = rest[:taken]
            self._filled += taken
            rest = rest[taken:]
            if self._filled == len(self._block):
                self._hand_over(self._block)
                self._handed_over += self._filled
                self._block, self._filled = self._empty_block(), 0

    def commit(self) -> Told:
        """Wait until everything is written and the file shown, and return what the store tells of it."""
        if self._filled:
            self._hand_over(self._block[: self._filled])
        self._hand_over(None)
        while not self._has_ended(LOOK):
            self._still_wanted()
        self._raise_error()
        assert self._told is not None  # noqa: S101 - the thread has committed, or there was an error
        return self._told

    def discard(self) -> None:
        """Leave no trace of what was written; may be called again where it was interrupted."""
        self._unwanted = True
        self._blocks.put(None)  # also ends a thread whose start was interrupted
        if self._thread is not None:
            # A thread that hangs is not waited for: it discards once more, after that has ended.
            try:
                self._abandoned = not self._has_ended(PATIENCE)
            except BaseException:  # a signal's handler has raised
                self._abandoned = True
                raise
        given_up_at = time.monotonic() + DISCARD_PATIENCE

        def still_wanted() -> None:
            if time.monotonic() > given_up_at:
                raise TimeoutError(f"its store has not answered for {DISCARD_PATIENCE:g} seconds")

        waited_for(self._file.discard, still_wanted)

    def _empty_block(self) -> bytearray:
        size = self._file.block_size(self._handed_over)
        with suppress(IndexError):
            spare = self._spare.popleft()
            if len(spare) == size:
                return spare
        return bytearray(size)

    def _hand_over(self, block: bytearray | None) -> None:
        self._thread = self._thread or start_daemon_thread(self._run, "mps-upload")
        while True:
            self._raise_error()
            with suppress(queue.Empty):
                self._room.get(timeout=LOOK)
                self._blocks.put(block)
                return
            self._still_wanted()

    def _has_ended(self, timeout: float) -> bool:
        with suppress(queue.Empty):
            self._ended.get(timeout=timeout)
            self._ended.put(None)  # for whoever asks again
            return True
        return False

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._write_blocks()
            if not self._unwanted:
                self._told = self._file.commit()
        except BaseException as error:  # noqa: BLE001 - it is raised where the next block is handed over
            self._error = error
        if self._abandoned:
            with suppress(Exception):
                self._file.discard()
        self._room.put(None)  # whoever waits to hand over hears of the error at once
        self._ended.put(None)

    def _write_blocks(self) -> None:
        while (block := self._blocks.get()) is not None and not self._unwanted:
            self._room.put(None)
            if spare := self._file.write(block):
                self._spare.append(spare)
            del block, spare
