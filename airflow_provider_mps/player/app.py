"""What answers behind the Listen view: within Airflow's API server, its authentication and its authorisation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI, Header, HTTPException, Query, status
from fastapi.responses import StreamingResponse
from fastapi.staticfiles import StaticFiles

from airflow_provider_mps.player.audio_object import AudioObject, NoAudioError
from airflow_provider_mps.player.byte_range import UnsatisfiableRangeError, parse_range
from airflow_provider_mps.player.recorded import RecordedAudio, find_recorded
from airflow_provider_mps.player.waveform import NoWaveformError, draw

app = FastAPI(title="MPS player", openapi_url=None)


def recorded(
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: Annotated[int, Query(ge=-1)] = -1,
) -> RecordedAudio:
    """Return what the task instance has recorded, and no other path."""
    with create_session() as session:  # not FastAPI's, which would hold it as long as somebody listens
        found = find_recorded(dag_id, run_id, task_id, map_index, session)
    if found is None:
        raise HTTPException(
            status.HTTP_404_NOT_FOUND,
            "There is nothing to hear: this task instance has stored no audio. "
            "TextToSpeechToObjectStorageOperator does, once it has succeeded.",
        )
    return found


def audio_of(audio: Annotated[RecordedAudio, Depends(recorded)]) -> AudioObject:
    """Return what is at the recorded path."""
    try:
        return AudioObject.find(audio.path)
    except NoAudioError as error:
        raise HTTPException(status.HTTP_404_NOT_FOUND, str(error)) from error


MAY_READ = [
    Depends(requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE)),
    Depends(requires_access_dag("GET", DagAccessEntity.XCOM)),
]
"""Before anything else: who may not read the DAG's task instances and XComs is told nothing and hears nothing."""
Recorded = Annotated[RecordedAudio, Depends(recorded)]
Audio = Annotated[AudioObject, Depends(audio_of)]


@app.get("/details", dependencies=MAY_READ)
def details(pushed: Recorded, audio: Audio) -> dict[str, Any]:
    """Tell of the audio."""
    return {
        "path": audio.path,
        "name": audio.name,
        "size": audio.size,
        "VoiceId": pushed.voice_id,
        "duration": pushed.duration,
    }


@app.get("/audio", dependencies=MAY_READ)
def stream(
    audio: Audio,
    *,
    download: bool = False,
    asked: Annotated[str | None, Header(alias="Range")] = None,
    if_range: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Send the audio, or the range of it that a player asks for when somebody seeks."""
    kind = "attachment" if download else "inline"
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f"{kind}; filename*=UTF-8''{quote(audio.name, safe='')}",
        "ETag": audio.etag,
        "X-Content-Type-Options": "nosniff",
    }
    try:
        part = parse_range(asked, audio.size) if if_range in {None, audio.etag} else None
    except UnsatisfiableRangeError as error:
        raise HTTPException(
            status.HTTP_416_RANGE_NOT_SATISFIABLE,
            f"The audio has {audio.size} bytes.",
            {"Content-Range": f"bytes */{audio.size}"},
        ) from error
    start, stop = part or (0, audio.size)
    headers["Content-Length"] = str(stop - start)
    if part:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{audio.size}"
    code = status.HTTP_206_PARTIAL_CONTENT if part else status.HTTP_200_OK
    return StreamingResponse(audio.read(start, stop), code, headers, audio.content_type)


@app.get("/waveform", dependencies=MAY_READ)
def waveform(audio: Audio) -> dict[str, Any]:
    """Tell how loud each part of the audio is."""
    try:
        return {"bars": draw(audio)}
    except NoWaveformError as error:
        raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, str(error)) from error


# The page itself tells nothing of anybody's task: it asks for the above.
app.mount("/", StaticFiles(directory=Path(__file__).parent / "static"))
