"""FastAPI application of the Listen view; Airflow's API server runs it, and authenticates and authorizes requests."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, Response, status  # noqa: TC002 - read
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from fastapi.staticfiles import StaticFiles

from airflow_provider_mps.player.audio_file import AudioFile, NoAudioError, UnsatisfiableRangeError, parse_range
from airflow_provider_mps.player.stored_audio import (
    RecordedAudio,
    UnreadableXComError,
    find_recorded_audio,
    has_custom_backend,
    is_in_xcom_storage,
)
from airflow_provider_mps.player.threadpool import iterate_in_threads, run_in_limited_thread
from airflow_provider_mps.player.waveform import TIMEOUT_SECONDS as WAVEFORM_TIMEOUT_SECONDS
from airflow_provider_mps.player.waveform import NoWaveformError, compute_waveform

_SLOW = "did not respond in time. Reload this page later. The log of Airflow's API server may say why."
_UNREAD_XCOM = (
    "The XCom that names the audio is in object storage and could not be read. Either the object was deleted, or "
    "Airflow's API server does not have the [core] xcom_backend that the workers have."
)

app = FastAPI(title="MPS player", openapi_url=None)


async def get_recorded_audio(
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: Annotated[int, Query(ge=-1, lt=2**31)] = -1,
) -> RecordedAudio:
    """Return the audio that the task instance has recorded, and no other path."""

    def find() -> RecordedAudio | None:
        with create_session() as session:  # not FastAPI's, which would stay open as long as the audio plays
            return find_recorded_audio(dag_id, run_id, task_id, map_index, session)

    try:
        # A backend reads from its storage, which may be slow; the database is read as in the server's other routes.
        found = await (
            run_in_limited_thread(find) if await run_in_threadpool(has_custom_backend) else run_in_threadpool(find)
        )
    except UnreadableXComError as error:
        raise HTTPException(status.HTTP_404_NOT_FOUND, str(error)) from error
    except TimeoutError as error:
        raise HTTPException(status.HTTP_504_GATEWAY_TIMEOUT, f"The storage of XComs {_SLOW}") from error
    if found is None:
        raise HTTPException(
            status.HTTP_404_NOT_FOUND,
            "This task instance has stored no audio. Open the Listen tab of a successful task that stores a clip, or "
            "the trial audio of a voice.",
        )
    return found


async def get_audio_file(audio: Annotated[RecordedAudio, Depends(get_recorded_audio)]) -> AudioFile:
    """Return the audio file at the recorded path."""
    try:
        return await run_in_limited_thread(lambda: AudioFile.find(audio.path))
    except NoAudioError as error:
        detail = _UNREAD_XCOM if is_in_xcom_storage(audio.path) else str(error)
        raise HTTPException(status.HTTP_404_NOT_FOUND, _make_encodable(detail)) from error
    except TimeoutError as error:
        raise HTTPException(
            status.HTTP_504_GATEWAY_TIMEOUT, _make_encodable(f"The storage of {audio.path} {_SLOW}")
        ) from error


READ_PERMISSIONS = [
    Depends(requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE)),
    Depends(requires_access_dag("GET", DagAccessEntity.XCOM)),
]
"""Checked first: without permission to read the DAG's task instances and XComs, users get no data and no audio."""
Recorded = Annotated[RecordedAudio, Depends(get_recorded_audio)]
Audio = Annotated[AudioFile, Depends(get_audio_file)]


@app.api_route("/details", methods=["GET", "HEAD"], dependencies=READ_PERMISSIONS)
def details(pushed: Recorded, audio: Audio) -> dict[str, Any]:
    """Return path, size, VoiceId and duration of the audio."""
    return {
        "path": _make_encodable(audio.path),
        "name": _make_encodable(audio.name),
        "size": audio.size,
        "VoiceId": None if pushed.voice_id is None else _make_encodable(pushed.voice_id),
        "duration": pushed.duration,
    }


@app.api_route("/audio", methods=["GET", "HEAD"], dependencies=READ_PERMISSIONS)
def stream(
    request: Request,
    audio: Audio,
    *,
    download: bool = False,
    range_header: Annotated[str | None, Header(alias="Range")] = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Send the audio, or the range that a player requests to seek."""
    kind = "attachment" if download else "inline"
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f"{kind}; filename*=UTF-8''{quote(audio.name, safe='', errors='replace')}",
        "ETag": audio.etag,
        "X-Content-Type-Options": "nosniff",
    }
    if if_none_match == audio.etag:
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    try:
        part = parse_range(range_header, audio.size) if if_range in {None, audio.etag} else None
    except UnsatisfiableRangeError as error:
        raise HTTPException(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            f"The requested range is not in the audio, which has {audio.size} bytes.",
            {"Content-Range": f"bytes */{audio.size}"},
        ) from error
    start, stop = part or (0, audio.size)
    headers["Content-Length"] = str(stop - start)
    if part:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{audio.size}"
    code = status.HTTP_206_PARTIAL_CONTENT if part else status.HTTP_200_OK
    if request.method == "HEAD":
        return Response(None, code, headers, audio.content_type)
    return StreamingResponse(iterate_in_threads(audio.read(start, stop)), code, headers, audio.content_type)


@app.get("/waveform", dependencies=READ_PERMISSIONS)
async def waveform(audio: Audio) -> dict[str, Any]:
    """Return the peaks of the waveform."""
    try:
        return {"bars": await run_in_limited_thread(lambda: compute_waveform(audio), WAVEFORM_TIMEOUT_SECONDS)}
    except NoWaveformError as error:
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, _make_encodable(str(error))) from error
    except TimeoutError as error:
        raise HTTPException(
            status.HTTP_504_GATEWAY_TIMEOUT, _make_encodable(f"The storage of {audio.path} {_SLOW}")
        ) from error


def _make_encodable(text: str) -> str:
    """Return a text that can be encoded: a file name may not be UTF-8, and JSON may contain lone surrogates."""
    return text.encode("utf-8", "replace").decode()


# The page holds no data of any task: it requests the routes above.
app.mount("/", StaticFiles(directory=Path(__file__).parent / "static"))
