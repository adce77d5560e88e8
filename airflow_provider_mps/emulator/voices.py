"""The emulator's voices: some of Tencent's, and clones and designs of the account, kept in memory."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_mps.emulator.api import ApiError
from airflow_provider_mps.emulator.speech import Style
from airflow_provider_mps.emulator.tasks import ACCOUNT, FAIL_PREFIX, Status

if TYPE_CHECKING:
    from airflow_provider_mps.emulator.tasks import Task, TaskStore

MAX_VOICES = 100
"""Cloned and designed voices of an account."""
DESIGN_PREFIX = f"{ACCOUNT}-DesignVoiceAsync-"
SYSTEM, CLONE, DESIGN = "system", "clone", "design"


@dataclass(frozen=True)
class Profile:
    """What users can set of a voice."""

    name: str = ""
    description: str = ""
    gender: str = "unknown"
    age: str = "unknown"
    languages: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    scenes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Voice:
    """A voice."""

    profile: Profile
    category: str
    trial: Task | None = None
    """The task that has spoken the trial audio."""
    voice_id: str = field(default_factory=lambda: f"v1_{uuid.uuid4().hex}+/=")
    """Like ids of MPS, with characters of base64."""


SYSTEM_VOICES = (
    ("emulator-amy", Profile("Amy", "Calm narrator", "female", "youth", ("en",), ("calm",), ("audiobook",))),
    ("emulator-ben", Profile("Ben", "Deep news voice", "male", "middle_aged", ("en",), ("deep",), ("news",))),
    # A spelling that MPS has, too.
    (
        "emulator-clara",
        Profile("Clara", "Friendly helper", "famale", "youth", ("de", "en"), ("friendly",), ("assistant",)),
    ),
    ("emulator-diego", Profile("Diego", "Lively presenter", "male", "youth", ("es",), ("lively",), ("advertising",))),
    ("emulator-mei", Profile("Mei", "Gentle teacher", "female", "senior", ("zh",), ("gentle",), ("education",))),
    ("emulator-yun", Profile("Yun", "Child of a cartoon", "unknown", "child", ("zh", "en"), ("funny",), ("cartoon",))),
)


class VoiceStore:
    """
    All voices since the start.

    :param tasks: speaks trial audio, and takes as long for a design as for a text
    """

    def __init__(self, tasks: TaskStore) -> None:
        self._tasks = tasks
        self._lock = threading.Lock()
        self._voices = {voice_id: Voice(profile, SYSTEM, voice_id=voice_id) for voice_id, profile in SYSTEM_VOICES}
        self._designs: dict[str, Voice] = {}
        """By task id; a design becomes a voice when its task has succeeded."""
        self._deleted: set[str] = set()

    def list(self) -> list[Voice]:
        """Return all voices."""
        with self._lock:
            self._add_finished_designs()
            return list(self._voices.values())

    def validate_not_deleted(self, voice_id: str) -> None:
        """
        Check the voice of a text: the emulator accepts any id that no deleted voice had.

        :raises ApiError: if the voice was deleted
        """
        if voice_id in self._deleted:
            raise ApiError("InvalidParameterValue", f"The voice {voice_id} does not exist.")

    def clone(self, profile: Profile, trial_text: str | None, language: str | None) -> Voice:
        """Add a clone, and speak its trial text at once."""
        trial = self._tasks.speak_now(trial_text, profile.name, language) if trial_text else None
        voice = Voice(profile, CLONE, trial)
        with self._lock:
            self._validate_limit()
            self._voices[voice.voice_id] = voice
        return voice

    def design(self, prompt: str, profile: Profile, trial_text: str | None) -> str:
        """Begin to design a voice, and return the task id; a prompt that begins with ``[fail]`` fails."""
        text = prompt if prompt.lstrip().startswith(FAIL_PREFIX) or not trial_text else trial_text
        trial = self._tasks.submit(text, profile.name, None, Style())  # which may take a while
        with self._lock:
            self._validate_limit()
            task_id = f"{DESIGN_PREFIX}{trial.name}"
            self._designs[task_id] = Voice(profile, DESIGN, trial)
        return task_id

    def find_design(self, task_id: str) -> tuple[Status, Voice]:
        """
        Return status and voice of a design.

        :raises ApiError: if there is no such task
        """
        with self._lock:
            if task_id not in self._designs:
                raise ApiError("ResourceNotFound", f"There is no task {task_id}.")
            self._add_finished_designs()
            voice = self._designs[task_id]
        return self._status(voice), voice

    def update(self, voice_id: str, changes: dict[str, object]) -> Voice:
        """
        Change a voice of the account.

        :raises ApiError: if there is none
        """
        with self._lock:
            voice = self._find_own(voice_id)
            changed = replace(voice, profile=replace(voice.profile, **changes))  # type: ignore[arg-type]
            self._voices[voice_id] = changed
        return changed

    def delete(self, voice_id: str) -> None:
        """
        Delete a voice of the account.

        :raises ApiError: if there is none
        """
        with self._lock:
            del self._voices[self._find_own(voice_id).voice_id]
            self._deleted.add(voice_id)

    def get_trial(self, voice: Voice) -> Task | None:
        """
        Return the task that has spoken the trial audio; ``None`` if there is none, or it has failed.

        A system voice introduces itself.
        """
        trial = voice.trial
        if trial is None and voice.category == SYSTEM:
            text = f"Hello, my name is {voice.profile.name}."
            trial = self._tasks.speak_now(text, voice.voice_id, voice.profile.languages[0])
            with self._lock:
                self._voices[voice.voice_id] = replace(voice, trial=trial)
        return trial if trial is not None and self._tasks.status(trial) is Status.SUCCESS else None

    def _find(self, voice_id: str) -> Voice:
        self._add_finished_designs()
        if voice_id not in self._voices:
            raise ApiError("ResourceNotFound", f"There is no voice {voice_id}.")
        return self._voices[voice_id]

    def _find_own(self, voice_id: str) -> Voice:
        voice = self._find(voice_id)
        if voice.category == SYSTEM:
            raise ApiError("UnsupportedOperation", f"The voice {voice_id} belongs to the system.")
        return voice

    def _status(self, design: Voice) -> Status:
        assert design.trial is not None  # noqa: S101 - each design has one
        return self._tasks.status(design.trial)

    def _add_finished_designs(self) -> None:
        for voice in self._designs.values():
            if voice.voice_id not in self._deleted and self._status(voice) is Status.SUCCESS:
                self._voices.setdefault(voice.voice_id, voice)

    def _validate_limit(self) -> None:
        unfinished = [voice for voice in self._designs.values() if self._status(voice) is Status.PROCESSING]
        self._add_finished_designs()
        own = sum(voice.category != SYSTEM for voice in self._voices.values()) + len(unfinished)
        if own >= MAX_VOICES:
            raise ApiError("LimitExceeded", f"The account has {MAX_VOICES} cloned and designed voices already.")
