"""The emulator's tasks, kept in memory, and their audio, made when it is first asked for."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from fastcrc import crc64

from airflow_provider_mps.emulator.speech import seconds, speak

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_mps.emulator.speech import Style, Voice

FAIL_PREFIX = "[fail]"
"""A text that begins with this fails, so that users can rehearse failure."""
ACCOUNT = "1300000000"


class Status(StrEnum):
    """The API's statuses, spelled here anew: a slip in the provider must not repeat itself in its emulator."""

    SUCCESS = "success"
    FAIL = "fail"
    PROCESSING = "processing"


@dataclass(frozen=True)
class Task:
    """A submitted text."""

    text: str
    voice_id: str
    language: str | None
    style: Style
    done_at: float
    """When it is finished, in seconds of a monotonic clock."""
    name: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def task_id(self) -> str:
        """The id in the form of the API's own."""
        return f"{ACCOUNT}-DubbingAsync-{self.name}"

    def status(self, now: float) -> Status:
        """Return the status at ``now``, in seconds of a monotonic clock."""
        if now < self.done_at:
            return Status.PROCESSING
        return Status.FAIL if self.text.lstrip().startswith(FAIL_PREFIX) else Status.SUCCESS


@dataclass(frozen=True)
class Audio:
    """A finished task's WAV on disk."""

    path: Path
    duration: float
    """Seconds."""
    crc64: int


class TaskBook:
    """
    All tasks since the start; gone when the program ends.

    :param folder: where audio is written
    :param synthesis_time: seconds that each task stays ``processing``
    :param voice: who speaks, see :func:`~.speech.speak`
    """

    def __init__(self, folder: Path, synthesis_time: float, voice: Voice) -> None:
        self._folder = folder
        self._synthesis_time = synthesis_time
        self._voice: Voice = voice
        self._tasks: dict[str, Task] = {}
        self._audio: dict[str, Audio] = {}
        self._synthesis = threading.Lock()

    def submit(self, text: str, voice_id: str, language: str | None, style: Style) -> Task:
        """Accept a text."""
        task = Task(text, voice_id, language, style, done_at=time.monotonic() + self._synthesis_time)
        self._tasks[task.name] = task
        return task

    def find(self, task_id: str) -> Task | None:
        """Return the task of an id, or of the name that ends it."""
        return self._tasks.get(task_id.removeprefix(f"{ACCOUNT}-DubbingAsync-"))

    def audio(self, task: Task) -> Audio:
        """Return a task's audio; blocks while it is made."""
        with self._synthesis:
            if task.name not in self._audio:
                wav = speak(task.text, task.language, task.style, self._voice)
                path = self._folder / f"{task.name}.wav"
                path.write_bytes(wav)
                self._audio[task.name] = Audio(path, seconds(wav), crc64.xz(wav))
            return self._audio[task.name]
