"""The most memory that a part of a process needs, as Linux counts it."""

from __future__ import annotations

import gc
import re
import threading
from pathlib import Path


class PeakMemory:
    """The most that this process had in memory while the ``with`` block ran, in bytes above what it had before."""

    def __enter__(self) -> PeakMemory:
        gc.collect()
        self._ended = threading.Event()
        self._sampler: threading.Thread | None = None
        self._before = self._highest = _memory("VmRSS")
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the kernel's own mark falls to what is there now
        except OSError:
            self._sampler = threading.Thread(target=self._sample)
            self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._sampler:
            self._ended.set()
            self._sampler.join()
        else:
            self._highest = _memory("VmHWM")
        self.above = self._highest - self._before

    def _sample(self) -> None:
        while not self._ended.wait(0.005):
            self._highest = max(self._highest, _memory("VmRSS"))


def _memory(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024
