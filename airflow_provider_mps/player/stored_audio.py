"""Read from XComs which audio a task instance has stored."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from airflow.models.xcom import XComModel
from airflow.providers.common.compat.sdk import conf
from airflow.sdk.bases.xcom import BaseXCom
from sqlalchemy import select

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

_MAX_DURATION_SECONDS = 1e9
"""Longer durations are not shown."""
PATH_KEYS = ("trial_audio", "return_value")
"""XComs of the path; the first that is there counts, because the operators of voices return a VoiceId."""
KEYS = (*PATH_KEYS, "VoiceId", "duration")


class UnreadableXComError(Exception):
    """The XCom backend cannot read a value; the message is for the user of the view."""


@dataclass(frozen=True)
class RecordedAudio:
    """The XComs of a task that has stored audio: a clip, or the trial audio of a voice."""

    path: str
    """Text of an ``ObjectStoragePath``, with its connection id."""
    voice_id: str | None
    duration: float | None
    """Seconds."""


class _StoredXCom(NamedTuple):
    """An XCom of the database, in the form that a backend takes."""

    key: str
    value: str


def find_recorded_audio(
    dag_id: str, run_id: str, task_id: str, map_index: int, session: Session
) -> RecordedAudio | None:
    """
    Return the audio that a task instance has recorded; ``None`` if it has stored none.

    With an XCom backend other than Airflow's own, this may read from the backend's storage.

    :param map_index: -1 for a task that is not mapped
    :param session: of Airflow's database; its connection is returned to the pool before a backend is used
    :raises UnreadableXComError: if the backend cannot read an XCom
    """
    query = select(XComModel.key, XComModel.value).where(
        XComModel.dag_id == dag_id,
        XComModel.run_id == run_id,
        XComModel.task_id == task_id,
        XComModel.map_index == map_index,
        XComModel.key.in_(KEYS),
    )
    pushed = {row.key: row.value for row in session.execute(query)}
    path_key = next((key for key in PATH_KEYS if key in pushed), None)
    if path_key is None or not pushed.keys() >= {"VoiceId", "duration"}:
        return None
    if has_custom_backend():
        session.close()
        pushed = {key: _deserialize_with_backend(key, value) for key, value in pushed.items()}
    path, voice_id, duration = (_parse_json(pushed[key]) for key in (path_key, "VoiceId", "duration"))
    if not isinstance(path, str):
        return None
    if isinstance(voice_id, int | float):
        voice_id = pushed["VoiceId"]  # a text of digits, which is also JSON
    return RecordedAudio(
        path,
        voice_id if isinstance(voice_id, str) else None,
        _parse_duration(duration),
    )


def has_custom_backend() -> bool:
    """Return whether an XCom backend other than Airflow's own is configured, even if it cannot be imported here."""
    try:
        return _get_backend_deserializer() is not BaseXCom.deserialize_value
    except UnreadableXComError:
        return True


def is_in_xcom_storage(path: str) -> bool:
    """Return whether a path is where ``XComObjectStorageBackend`` keeps the values of XComs."""
    folder = conf.get("common.io", "xcom_objectstorage_path", fallback=None)
    return bool(folder) and path.startswith(folder.rstrip("/") + "/")


def _get_backend_deserializer() -> Callable[[_StoredXCom], object]:
    """Return ``deserialize_value`` of the class in ``[core] xcom_backend``."""
    try:
        deserializer: Callable[[_StoredXCom], object] = (
            conf.getimport("core", "xcom_backend") or BaseXCom
        ).deserialize_value
    except Exception as error:
        log.warning("The class that [core] xcom_backend names cannot be imported: %s", type(error).__name__)
        raise UnreadableXComError(
            "The XComs of this task instance cannot be read: Airflow's API server cannot import the class that "
            f"[core] xcom_backend names ({type(error).__name__}). Install it on the API server."
        ) from error
    return deserializer


def _deserialize_with_backend(key: str, value: object) -> object:
    """
    Deserialize a value of the database with the backend.

    A backend's reference is a text. Other values are kept: a dict could name a class, which Airflow would import.
    """
    if not isinstance(value, str):
        return value
    deserialize = _get_backend_deserializer()
    try:
        return deserialize(_StoredXCom(key, value))
    except Exception as error:
        # The error's text is not logged either: it may quote a signed URL.
        log.warning("The XCom backend cannot read the XCom %s: %s", key, type(error).__name__)
        raise UnreadableXComError(
            f"The XCom {key} of this task instance cannot be read: the XCom backend raised {type(error).__name__}. "
            "Airflow's API server needs the same packages, connection and permissions as the workers to read XComs."
        ) from error


def _parse_json(value: object) -> object:
    """Parse a value as JSON only: Airflow's own deserialization imports the classes that a value names."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value  # pushed through the REST API, which keeps a text unchanged


def _parse_duration(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MAX_DURATION_SECONDS:
        return None
    return value
