"""What a task instance has recorded of the audio that it stored."""

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

_LONGEST = 1e9
"""Seconds that an audio may last, for the view to show them."""
KEYS = ("return_value", "VoiceId", "duration")


class UnreadableXComError(Exception):
    """The XCom backend cannot read a value; the message is for the user of the view."""


@dataclass(frozen=True)
class RecordedAudio:
    """The XComs that :class:`~.TextToSpeechToObjectStorageOperator` pushes."""

    path: str
    """As the text of an ``ObjectStoragePath``, with its connection."""
    voice_id: str | None
    duration: float | None
    """Seconds."""


class _StoredXCom(NamedTuple):
    """An XCom as it is in the database, in the form in which a worker gives it to a backend."""

    key: str
    value: str


def find_recorded(dag_id: str, run_id: str, task_id: str, map_index: int, session: Session) -> RecordedAudio | None:
    """
    Return what a task instance has recorded; ``None`` where it has stored no audio.

    With an XCom backend other than Airflow's own, this may read from the backend's storage.

    :param map_index: -1 for a task that is not mapped
    :param session: of Airflow's database; its connection is returned to the pool before a backend is used
    :raises UnreadableXComError: when the backend cannot read what the task instance has pushed
    """
    query = select(XComModel.key, XComModel.value).where(
        XComModel.dag_id == dag_id,
        XComModel.run_id == run_id,
        XComModel.task_id == task_id,
        XComModel.map_index == map_index,
        XComModel.key.in_(KEYS),
    )
    pushed = {row.key: row.value for row in session.execute(query)}
    if not pushed.keys() >= set(KEYS):
        return None
    if has_custom_backend():
        session.close()
        pushed = {key: _read_through_backend(key, value) for key, value in pushed.items()}
    path, voice_id, duration = (_read(pushed[key]) for key in KEYS)
    if not isinstance(path, str):
        return None
    if isinstance(voice_id, int | float):
        voice_id = pushed["VoiceId"]  # a text of digits, which is JSON too
    return RecordedAudio(
        path,
        voice_id if isinstance(voice_id, str) else None,
        _seconds(duration),
    )


def has_custom_backend() -> bool:
    """Return whether XComs are read by anything but Airflow's own class, even if it cannot be imported here."""
    try:
        return _backend_reader() is not BaseXCom.deserialize_value
    except UnreadableXComError:
        return True


def is_in_xcom_storage(path: str) -> bool:
    """Return whether a path is where ``XComObjectStorageBackend`` keeps the values of XComs."""
    folder = conf.get("common.io", "xcom_objectstorage_path", fallback=None)
    return bool(folder) and path.startswith(folder.rstrip("/") + "/")


def _backend_reader() -> Callable[[_StoredXCom], object]:
    """Return what reads a value, of the class that ``[core] xcom_backend`` names in this process."""
    try:
        reader: Callable[[_StoredXCom], object] = (conf.getimport("core", "xcom_backend") or BaseXCom).deserialize_value
    except Exception as error:
        log.warning("The class that [core] xcom_backend names cannot be imported: %s", type(error).__name__)
        raise UnreadableXComError(
            "The XComs of this task instance cannot be read: Airflow's API server cannot import the class that "
            f"[core] xcom_backend names ({type(error).__name__}). Install it where the API server runs."
        ) from error
    return reader


def _read_through_backend(key: str, value: object) -> object:
    """
    Return what a backend makes of a value of the database.

    A backend's reference is a text. Everything else is kept as it is: a dict might name a class, which Airflow's own
    reading imports.
    """
    if not isinstance(value, str):
        return value
    read = _backend_reader()
    try:
        return read(_StoredXCom(key, value))
    except Exception as error:
        # Not the error's own text, not in the log either: it may quote a signed URL.
        log.warning("The XCom backend cannot read the XCom %s: %s", key, type(error).__name__)
        raise UnreadableXComError(
            f"The XCom {key} of this task instance cannot be read: the XCom backend raised {type(error).__name__}. "
            "Give Airflow's API server the packages, the connection and the permission with which workers read XComs."
        ) from error


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
