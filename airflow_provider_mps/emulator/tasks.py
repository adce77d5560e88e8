"""The emulator's tasks, kept in memory, and their audio."""

from __future__ import annotations

import random
import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from fastcrc import crc64

from airflow_provider_mps.emulator.speech import Style, measure_seconds, speak, write_tone

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_mps.emulator.speech import Voice

FAIL_PREFIX = "[fail]"
"""A text that begins with this fails, to test failures."""
ACCOUNT = "1300000000"
_BLOCK_BYTES = 1024 * 1024


class Status(StrEnum):
    """The API's statuses. Not imported from the provider, so that a mistake there does not repeat here."""

    SUCCESS = "success"
    FAIL = "fail"
    PROCESSING = "processing"


ERROR_CODES = {Status.SUCCESS: 0, Status.PROCESSING: 100, Status.FAIL: 110}
"""``ErrorCode`` by status."""


@dataclass(frozen=True)
class Task:
    """A submitted text."""

    text: str
    voice_id: str
    language: str | None
    style: Style
    done_at: float
    """When it finishes, in seconds of a monotonic clock."""
    name: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def task_id(self) -> str:
        """The id, in the API's form."""
        return f"{ACCOUNT}-DubbingAsync-{self.name}"


@dataclass(frozen=True)
class Audio:
    """A finished task's WAV or MP3 on disk."""

    path: Path
    duration: float
    """Seconds."""
    crc64: int

    @classmethod
    def from_file(cls, path: Path) -> Audio:
        """Measure a file of any size; the duration of a file that is no audio is 0."""
        crc = 0
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                crc = crc64.xz(block, crc)
        try:
            return cls(path, measure_seconds(path), crc)
        except ValueError:
            return cls(path, 0.0, crc)


class TaskStore:
    """
    All tasks since the start, until the ``with`` block ends.

    Speech is synthesized in the background. Tasks with the same text, language and style share one audio, so that the
    store can hold many thousands of tasks.

    :param folder: folder for the audio
    :param synthesis_time: minimum seconds for which each task is ``processing``, or a range to draw from; with 0, a
        submit returns when the task is done
    :param voice: speech engine, see :func:`~.speech.speak`
    """

    def __init__(self, folder: Path, synthesis_time: float | tuple[float, float], voice: Voice) -> None:
        self._folder = folder
        self._synthesis_time = synthesis_time if isinstance(synthesis_time, tuple) else (synthesis_time, synthesis_time)
        self._voice: Voice = voice
        self._tasks: dict[str, Task] = {}
        self._audio: dict[str, Future[Audio]] = {}
        self._audio_of_request: dict[tuple[str, str | None, Style], Future[Audio]] = {}
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="mps-emulator-voice")

    def __enter__(self) -> TaskStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(cancel_futures=True)

    def submit(self, text: str, voice_id: str, language: str | None, style: Style) -> Task:
        """Submit a text."""
        seconds_to_go = random.uniform(*self._synthesis_time)  # noqa: S311 - no secret
        task = Task(text, voice_id, language, style, done_at=time.monotonic() + seconds_to_go)
        with self._lock:
            audio = self._audio_of_request.get((text, language, style))
            if audio is None:
                audio = self._audio_of_request[text, language, style] = self._executor.submit(self._speak, task)
        self._audio[task.name] = audio
        self._tasks[task.name] = task
        if not seconds_to_go:
            wait([audio])
        return task

    def speak_now(self, text: str, voice_id: str, language: str | None, style: Style | None = None) -> Task:
        """Speak a text at once, in this thread, so that it need not wait for submitted texts; return its task."""
        task = Task(text, voice_id, language, style or Style(), done_at=time.monotonic())
        audio: Future[Audio] = Future()
        try:
            audio.set_result(self._speak(task))
        except Exception as error:  # noqa: BLE001 - the task has failed
            audio.set_exception(error)
        self._audio[task.name] = audio
        self._tasks[task.name] = task
        return task

    def add(self, audio: bytes | Path, voice_id: str) -> Task:
        """
        Add a task that is done, with a given audio.

        :param audio: its bytes, or a file of any size that is served in place
        """
        if isinstance(audio, bytes):
            path = self._new_file()
            path.write_bytes(audio)
        else:
            path = audio
        task = Task("", voice_id, None, Style(), done_at=time.monotonic())
        self._set_audio(task, Audio.from_file(path))
        self._tasks[task.name] = task
        return task

    def find(self, task_id: str) -> Task | None:
        """Return the task with an id, or with the name at its end."""
        return self._tasks.get(task_id.removeprefix(f"{ACCOUNT}-DubbingAsync-"))

    def status(self, task: Task) -> Status:
        """Return the status of a task now."""
        spoken = self._audio[task.name]
        if time.monotonic() < task.done_at or not spoken.done():
            return Status.PROCESSING
        failed = task.text.lstrip().startswith(FAIL_PREFIX) or spoken.exception() is not None
        return Status.FAIL if failed else Status.SUCCESS

    def audio(self, task: Task) -> Audio:
        """Return the audio of a task that has succeeded."""
        return self._audio[task.name].result()

    def replace_audio(self, task: Task) -> None:
        """Replace the audio of a finished task by a tone that is a second longer."""
        duration = self.audio(task).duration + 1
        path = self._new_file()
        # The pitch changes too, so that no part of one equals a part of the other.
        write_tone(path, duration, replace(task.style, pitch=1 + int(duration) % 12))
        self._set_audio(task, Audio.from_file(path))

    def _set_audio(self, task: Task, audio: Audio) -> None:
        """Set the audio of a task."""
        done: Future[Audio] = Future()
        done.set_result(audio)
        self._audio[task.name] = done

    def _new_file(self, audio_format: str = "wav") -> Path:
        return self._folder / f"{uuid.uuid4()}.{audio_format}"

    def _speak(self, task: Task) -> Audio:
        audio = speak(task.text, task.language, task.style, self._voice)
        path = self._new_file(task.style.audio_format)
        path.write_bytes(audio)
        return Audio(path, measure_seconds(audio), crc64.xz(audio))
