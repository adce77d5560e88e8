"""What a task instance has recorded of the audio that it stored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow.models.xcom import XComModel
from sqlalchemy import select

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_LONGEST = 1e9
"""Seconds that an audio may last, for the view to show them."""
KEYS = ("return_value", "VoiceId", "duration")


@dataclass(frozen=True)
class RecordedAudio:
    """The XComs that :class:`~.TextToSpeechToObjectStorageOperator` pushes."""

    path: str
    """As the text of an ``ObjectStoragePath``, with its connection."""
    voice_id: str | None
    duration: float | None
    """Seconds."""


def find_recorded(dag_id: str, run_id: str, task_id: str, map_index: int, session: Session) -> RecordedAudio | None:
    """
    Return what a task instance has recorded; ``None`` where it has stored no audio.

    :param map_index: -1 for a task that is not mapped
    :param session: of Airflow's database
    """
    query = select(XComModel.key, XComModel.value).where(
        XComModel.dag_id == dag_id,
        XComModel.run_id == run_id,
        XComModel.task_id == task_id,
        XComModel.map_index == map_index,
        XComModel.key.in_(KEYS),
    )
    pushed = {row.key: _read(row.value) for row in session.execute(query)}
    path, voice_id, duration = (pushed.get(key) for key in KEYS)
    if not pushed.keys() >= set(KEYS) or not isinstance(path, str):
        return None
    return RecordedAudio(
        path,
        voice_id if isinstance(voice_id, str) else None,
        _seconds(duration),
    )


def _read(value: object) -> object:
    """Read what was pushed as JSON and nothing else: Airflow's own reading imports the classes that a value names."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value  # it was pushed through the API, which keeps a text as it is


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LONGEST:
        return None
    return value
