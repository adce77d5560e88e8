"""What answers behind the Listen view: within Airflow's API server, its authentication and its authorisation."""

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

from airflow_provider_mps.player.audio_object import AudioObject, NoAudioError
from airflow_provider_mps.player.byte_range import UnsatisfiableRangeError, parse_range
from airflow_provider_mps.player.own_turn import in_turn, one_by_one
from airflow_provider_mps.player.recorded import (
    RecordedAudio,
    UnreadableXComError,
    find_recorded,
    has_custom_backend,
    is_in_xcom_storage,
)
from airflow_provider_mps.player.waveform import TIMEOUT as DRAWING
from airflow_provider_mps.player.waveform import NoWaveformError, draw

_SLOW = "does not answer, or others wait for it. Try again later; the log of Airflow's API server may say why."
_UNREAD_XCOM = (
    "The XCom return_value of this task instance is kept in object storage, and was not read from there: either the "
    "object is gone, or Airflow's API server lacks the [core] xcom_backend that the workers have."
)

app = FastAPI(title="MPS player", openapi_url=None)


async def recorded(
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: Annotated[int, Query(ge=-1, lt=2**31)] = -1,
) -> RecordedAudio:
    """Return what the task instance has recorded, and no other path."""

    def find() -> RecordedAudio | None:
        with create_session() as session:  # not FastAPI's, which would hold it as long as the audio plays
            return find_recorded(dag_id, run_id, task_id, map_index, session)

    try:
        # A backend reads from its storage, which may be slow; the database is read as by the server's other routes.
        found = await (in_turn(find) if await run_in_threadpool(has_custom_backend) else run_in_threadpool(find))
    except UnreadableXComError as error:
        raise HTTPException(status.HTTP_404_NOT_FOUND, str(error)) from error
    except TimeoutError as error:
        raise HTTPException(status.HTTP_504_GATEWAY_TIMEOUT, f"The storage of XComs {_SLOW}") from error
    if found is None:
        raise HTTPException(
            status.HTTP_404_NOT_FOUND,
            "There is nothing to hear: this task instance has stored no audio. "
            "TextToSpeechToObjectStorageOperator does, once it has succeeded.",
        )
    return found


async def audio_of(audio: Annotated[RecordedAudio, Depends(recorded)]) -> AudioObject:
    """Return what is at the recorded path."""
    try:
        return await in_turn(lambda: AudioObject.find(audio.path))
    except NoAudioError as error:
        detail = _UNREAD_XCOM if is_in_xcom_storage(audio.path) else str(error)
        raise HTTPException(status.HTTP_404_NOT_FOUND, _shown(detail)) from error
    except TimeoutError as error:
        raise HTTPException(status.HTTP_504_GATEWAY_TIMEOUT, _shown(f"The store of {audio.path} {_SLOW}")) from error


MAY_READ = [
    Depends(requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE)),
    Depends(requires_access_dag("GET", DagAccessEntity.XCOM)),
]
"""Before anything else: who may not read the DAG's task instances and XComs is told nothing and hears nothing."""
Recorded = Annotated[RecordedAudio, Depends(recorded)]
Audio = Annotated[AudioObject, Depends(audio_of)]


@app.api_route("/details", methods=["GET", "HEAD"], dependencies=MAY_READ)
def details(pushed: Recorded, audio: Audio) -> dict[str, Any]:
    """Tell of the audio."""
    return {
        "path": _shown(audio.path),
        "name": _shown(audio.name),
        "size": audio.size,
        "VoiceId": None if pushed.voice_id is None else _shown(pushed.voice_id),
        "duration": pushed.duration,
    }


@app.api_route("/audio", methods=["GET", "HEAD"], dependencies=MAY_READ)
def stream(
    request: Request,
    audio: Audio,
    *,
    download: bool = False,
    asked: Annotated[str | None, Header(alias="Range")] = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Send the audio, or the range of it that a player asks for when somebody seeks."""
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
        part = parse_range(asked, audio.size) if if_range in {None, audio.etag} else None
    except UnsatisfiableRangeError as error:
        raise HTTPException(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            f"The audio has {audio.size} bytes.",
            {"Content-Range": f"bytes */{audio.size}"},
        ) from error
    start, stop = part or (0, audio.size)
    headers["Content-Length"] = str(stop - start)
    if part:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{audio.size}"
    code = status.HTTP_206_PARTIAL_CONTENT if part else status.HTTP_200_OK
    if request.method == "HEAD":
        return Response(None, code, headers, audio.content_type)
    return StreamingResponse(one_by_one(audio.read(start, stop)), code, headers, audio.content_type)


@app.get("/waveform", dependencies=MAY_READ)
async def waveform(audio: Audio) -> dict[str, Any]:
    """Tell how loud each part of the audio is."""
    try:
        return {"bars": await in_turn(lambda: draw(audio), DRAWING)}
    except NoWaveformError as error:
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, _shown(str(error))) from error
    except TimeoutError as error:
        raise HTTPException(status.HTTP_504_GATEWAY_TIMEOUT, f"The store {_SLOW}") from error


def _shown(text: str) -> str:
    """Return a text that can be sent: a file's name may be no UTF-8, and JSON may spell half of a character."""
    return text.encode("utf-8", "replace").decode()


# The page itself tells nothing of anybody's task: it asks for the above.
app.mount("/", StaticFiles(directory=Path(__file__).parent / "static"))
