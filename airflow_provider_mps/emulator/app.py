"""The emulator's HTTP: the API at ``POST /`` and the audio behind links that expire."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
import time
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from airflow_provider_mps.emulator.api import (
    MAX_BODY,
    RefusalError,
    authenticate,
    find_action,
    read_parameters,
    read_style,
)
from airflow_provider_mps.emulator.connection import App
from airflow_provider_mps.emulator.faults import FaultKind, FaultSequence
from airflow_provider_mps.emulator.keys import Key, KeyRing
from airflow_provider_mps.emulator.rate_limit import RateLimit
from airflow_provider_mps.emulator.storage import (
    AUDIO_PATH,
    MOVED_PATH,
    AudioAnswer,
    can_meet,
    faulty_answer,
    refusal,
)
from airflow_provider_mps.emulator.tasks import Status, TaskBook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.applications import Starlette
    from starlette.requests import Request

    from airflow_provider_mps.emulator.faults import AudioFault
    from airflow_provider_mps.emulator.speech import Voice
    from airflow_provider_mps.emulator.tasks import Task

log = logging.getLogger(__name__)

DEFAULT_ROLE_DURATION = 7200
_ERROR_CODES = {Status.SUCCESS: 0, Status.PROCESSING: 100, Status.FAIL: 110}


@dataclass(frozen=True)
class Options:
    """How the emulator behaves."""

    synthesis_time: float | tuple[float, float] = 3.0
    """Seconds that each task stays ``processing``; two ends of a range let each task draw its own."""
    latency: float = 0.0
    """Seconds that each answer of the API takes at least."""
    rate_limit: int = 20
    """Requests a second that each call admits."""
    link_lifetime: float = 3600.0
    """Seconds that an ``AudioUrl`` works."""
    secret_id: str = "emulator-id"  # noqa: S105
    secret_key: str = "emulator-key"  # noqa: S105 - a local server's, printed when it starts
    token: str | None = None
    voice: Voice = "auto"
    audio_faults: tuple[AudioFault, ...] = ()
    """What downloads of each audio meet, one after the other."""


def make_app(options: Options | None = None) -> Starlette:
    """Make the ASGI application; its tasks live and die with it."""
    options = options or Options()
    folder = TemporaryDirectory(prefix="mps-emulator-")
    emulator = _Emulator(options, Path(folder.name))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        with folder, emulator.tasks:
            yield

    app = App(
        routes=[
            Route("/", emulator.api, methods=["POST"]),
            *(Route(path, emulator.serve_audio, methods=["GET", "HEAD"]) for path in (AUDIO_PATH, MOVED_PATH)),
        ],
        lifespan=lifespan,
    )
    app.state.tasks = emulator.tasks  # for a program that fills it without submitting
    return app


class _Emulator:
    def __init__(self, options: Options, folder: Path) -> None:
        self.options = options
        self.keys = KeyRing(Key(options.secret_id, options.secret_key, options.token))
        self.limit = RateLimit(options.rate_limit)
        self.tasks = TaskBook(folder, options.synthesis_time, options.voice)
        self.faults = FaultSequence(options.audio_faults)
        self.link_secret = secrets.token_bytes(32)
        self.calls: dict[str, Callable[[Request, dict[str, Any]], dict[str, Any]]] = {
            "TextToSpeechAsync": self.submit,
            "DescribeTextToSpeechAsyncTask": self.describe,
            "AssumeRole": self.assume_role,
        }

    async def api(self, request: Request) -> Response:
        request_id = str(uuid.uuid4())
        try:
            answer = await self.answer(request)
        except RefusalError as refusal:
            log.info("refused %r: %s", request.headers.get("x-tc-action"), refusal.code)
            answer = {"Error": {"Code": refusal.code, "Message": refusal.message}}
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        await asyncio.sleep(self.options.latency)
        # Escaped, for a refusal may name a parameter that no encoding can write.
        return Response(json.dumps({"Response": {**answer, "RequestId": request_id}}), media_type="application/json")

    async def answer(self, request: Request) -> dict[str, Any]:
        body = await _body(request)
        caller = authenticate(request.headers, body, self.keys, time.time())
        name, action = find_action(request.headers, caller.service)
        # Counted by action and region for the one account there is, before the parameters are read.
        quota = f"{name} {request.headers.get('x-tc-region')}"
        if not self.limit.admits(quota, time.monotonic()):
            raise RefusalError("RequestLimitExceeded", f"More than {self.limit.per_second} requests a second.")
        parameters = read_parameters(action, request.headers, body)
        return await run_in_threadpool(self.calls[name], request, parameters)

    def submit(self, _: Request, parameters: dict[str, Any]) -> dict[str, Any]:
        style = read_style(parameters.get("ExtParam"))
        task = self.tasks.submit(parameters["Text"], parameters["VoiceId"], parameters.get("TextLang"), style)
        log.info("accepted task %s, %s characters", task.task_id, len(task.text))
        return {"ErrorCode": 0, "Msg": "success", "TaskId": task.task_id}

    def describe(self, request: Request, parameters: dict[str, Any]) -> dict[str, Any]:
        task = self.tasks.find(parameters["TaskId"])
        if task is None:
            raise RefusalError("ResourceNotFound", f"There is no task {parameters['TaskId']}.")
        status = self.tasks.status(task)
        answer = {
            "ErrorCode": _ERROR_CODES[status],
            "Msg": "the text asked to fail, or could not be spoken" if status is Status.FAIL else status.value,
            "Status": status.value,
            "AudioUrl": "",
            "VoiceId": "",
            "ExtInfo": "",
        }
        if status is Status.SUCCESS:
            answer["AudioUrl"] = f"{request.url.scheme}://{request.url.netloc}{self.link(task)}"
            answer["VoiceId"] = task.voice_id
            answer["ExtInfo"] = json.dumps({"duration": self.tasks.audio(task).duration})
        return answer

    def assume_role(self, _: Request, parameters: dict[str, Any]) -> dict[str, Any]:
        if not parameters["RoleArn"].startswith("qcs::cam::uin/"):
            raise RefusalError("InvalidParameter.RoleArn", "RoleArn must look like qcs::cam::uin/1:roleName/name.")
        expires_at = int(time.time()) + parameters.get("DurationSeconds", DEFAULT_ROLE_DURATION)
        key = self.keys.issue_temporary(expires_at)
        return {
            "Credentials": {"TmpSecretId": key.secret_id, "TmpSecretKey": key.secret_key, "Token": key.token},
            "ExpiredTime": expires_at,
        }

    async def serve_audio(self, request: Request) -> Response:
        name = request.path_params["name"]
        expires = request.query_params.get("expires", "")
        given, expected = request.query_params.get("sign", ""), self.link_signature(name, expires)
        if not hmac.compare_digest(given.encode(), expected.encode()):
            return refusal(403, "AccessDenied", "The link is not signed by this server.")
        if float(expires) < time.time():
            return refusal(403, "AccessDenied", "Request has expired")
        task = self.tasks.find(name)
        if task is None or self.tasks.status(task) is not Status.SUCCESS:
            return refusal(404, "NoSuchKey", "The specified key does not exist.")
        audio, fault = self.tasks.audio(task), self.faults.next_for(name)
        if fault is None or not can_meet(fault, request):
            return AudioAnswer(audio)
        self.faults.count(name)
        log.info("the audio of task %s meets the fault %s", task.task_id, fault)
        if fault is FaultKind.REPLACE:
            await run_in_threadpool(self.tasks.replace_audio, task)
        return faulty_answer(fault, audio, request)

    def link(self, task: Task) -> str:
        expires = f"{time.time() + self.options.link_lifetime:.3f}"
        return f"{AUDIO_PATH.format(name=task.name)}?expires={expires}&sign={self.link_signature(task.name, expires)}"

    def link_signature(self, name: str, expires: str) -> str:
        return hmac.digest(self.link_secret, f"{name} {expires}".encode(), "sha256").hex()


async def _body(request: Request) -> bytes:
    """Read no more than a request may have."""
    body = b""
    async for block in request.stream():
        body += block
        if len(body) > MAX_BODY:
            raise RefusalError("RequestSizeLimitExceeded", f"The request has more than {MAX_BODY} bytes.")
    return body
