"""The emulator's ASGI application: the API at ``POST /``, and audio at signed URLs that expire."""

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
    MAX_BODY_BYTES,
    ApiError,
    RateLimit,
    authenticate,
    find_action,
    parse_parameters,
    parse_style,
)
from airflow_provider_mps.emulator.audio_response import AUDIO_PATH, MOVED_PATH, AudioResponse, make_error_response
from airflow_provider_mps.emulator.auth import Key, KeyStore
from airflow_provider_mps.emulator.faults import FaultKind, FaultSequence, applies_to, make_faulty_response
from airflow_provider_mps.emulator.synthesis import synthesize
from airflow_provider_mps.emulator.tasks import ERROR_CODES, Status, TaskStore
from airflow_provider_mps.emulator.transport import App
from airflow_provider_mps.emulator.voice_actions import VoiceActions
from airflow_provider_mps.emulator.voices import VoiceStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.applications import Starlette
    from starlette.requests import Request

    from airflow_provider_mps.emulator.faults import AudioFault
    from airflow_provider_mps.emulator.speech import Voice
    from airflow_provider_mps.emulator.tasks import Task

log = logging.getLogger(__name__)

DEFAULT_ROLE_DURATION_SECONDS = 7200


@dataclass(frozen=True)
class Options:
    """Options of the emulator."""

    synthesis_time: float | tuple[float, float] = 3.0
    """Seconds for which each task stays ``processing``, or a range to draw from."""
    latency: float = 0.0
    """Minimum seconds of each API response."""
    rate_limit: int = 20
    """Requests per second that each API action admits."""
    link_lifetime: float = 3600.0
    """Seconds for which an ``AudioUrl`` is valid."""
    secret_id: str = "emulator-id"  # noqa: S105
    secret_key: str = "emulator-key"  # noqa: S105 - a local server's, printed when it starts
    token: str | None = None
    voice: Voice = "auto"
    audio_faults: tuple[AudioFault, ...] = ()
    """Faults of the downloads of each audio, one after the other."""


def make_app(options: Options | None = None) -> Starlette:
    """Make the ASGI application, which owns its tasks."""
    options = options or Options()
    folder = TemporaryDirectory(prefix="mps-emulator-")
    emulator = _Emulator(options, Path(folder.name))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        with folder, emulator.tasks:
            yield

    app = App(
        routes=[
            Route("/", emulator.handle_api_call, methods=["POST"]),
            *(Route(path, emulator.serve_audio, methods=["GET", "HEAD"]) for path in (AUDIO_PATH, MOVED_PATH)),
        ],
        lifespan=lifespan,
    )
    app.state.tasks = emulator.tasks  # for programs that add tasks without submitting
    app.state.voices = emulator.voices
    return app


class _Emulator:
    def __init__(self, options: Options, folder: Path) -> None:
        self.options = options
        self.keys = KeyStore(Key(options.secret_id, options.secret_key, options.token))
        self.limit = RateLimit(options.rate_limit)
        self.tasks = TaskStore(folder, options.synthesis_time, options.voice)
        self.voices = VoiceStore(self.tasks)
        self.faults = FaultSequence(options.audio_faults)
        self.signing_key = secrets.token_bytes(32)
        self.calls: dict[str, Callable[[Request, dict[str, Any]], dict[str, Any]]] = {
            "TextToSpeechAsync": self.submit,
            "DescribeTextToSpeechAsyncTask": self.describe,
            "AssumeRole": self.assume_role,
        }
        # Their responses hold URLs of audio.
        self.audio_calls = {"TextToSpeech": self.synthesize, **VoiceActions(self.voices, self.tasks).calls}

    async def handle_api_call(self, request: Request) -> Response:
        request_id = str(uuid.uuid4())
        try:
            response = await self.call_action(request)
        except ApiError as error:
            log.info("rejected %r: %s", request.headers.get("x-tc-action"), error.code)
            response = {"Error": {"Code": error.code, "Message": error.message}}
        except ClientDisconnect:
            return Response(status_code=400)  # the client has disconnected
        await asyncio.sleep(self.options.latency)
        # Escaped, because an error may name a parameter that cannot be encoded.
        return Response(json.dumps({"Response": {**response, "RequestId": request_id}}), media_type="application/json")

    async def call_action(self, request: Request) -> dict[str, Any]:
        body = await _read_body(request)
        caller = authenticate(request.headers, body, self.keys, time.time())
        name, action = find_action(request.headers, caller.service)
        # Counted by action and region, for one account, before the parameters are parsed.
        quota = f"{name} {request.headers.get('x-tc-region')}"
        if not self.limit.admits(quota, time.monotonic()):
            raise ApiError("RequestLimitExceeded", f"More than {self.limit.per_second} requests per second.")
        parameters = parse_parameters(action, request.headers, body)
        if name in self.audio_calls:
            return await run_in_threadpool(
                self.audio_calls[name], parameters, lambda task: self.make_audio_url(request, task)
            )
        return await run_in_threadpool(self.calls[name], request, parameters)

    def submit(self, _: Request, parameters: dict[str, Any]) -> dict[str, Any]:
        style = parse_style(parameters.get("ExtParam"))
        self.voices.validate_not_deleted(parameters["VoiceId"])
        task = self.tasks.submit(parameters["Text"], parameters["VoiceId"], parameters.get("TextLang"), style)
        log.info("accepted task %s, %s characters", task.task_id, len(task.text))
        return {"ErrorCode": 0, "Msg": "success", "TaskId": task.task_id}

    def synthesize(self, parameters: dict[str, Any], make_audio_url: Callable[[Task], str]) -> dict[str, Any]:
        return synthesize(parameters, self.tasks, self.voices, make_audio_url)

    def describe(self, request: Request, parameters: dict[str, Any]) -> dict[str, Any]:
        task = self.tasks.find(parameters["TaskId"])
        if task is None:
            raise ApiError("ResourceNotFound", f"There is no task {parameters['TaskId']}.")
        status = self.tasks.status(task)
        response = {
            "ErrorCode": ERROR_CODES[status],
            "Msg": "the text begins with [fail], or synthesis failed" if status is Status.FAIL else status.value,
            "Status": status.value,
            "AudioUrl": "",
            "VoiceId": "",
            "ExtInfo": "",
        }
        if status is Status.SUCCESS:
            response["AudioUrl"] = self.make_audio_url(request, task)
            response["VoiceId"] = task.voice_id
            response["ExtInfo"] = json.dumps({"duration": self.tasks.audio(task).duration})
        return response

    def assume_role(self, _: Request, parameters: dict[str, Any]) -> dict[str, Any]:
        if not parameters["RoleArn"].startswith("qcs::cam::uin/"):
            raise ApiError("InvalidParameter.RoleArn", "RoleArn must look like qcs::cam::uin/1:roleName/name.")
        expires_at = int(time.time()) + parameters.get("DurationSeconds", DEFAULT_ROLE_DURATION_SECONDS)
        key = self.keys.issue_temporary(expires_at)
        return {
            "Credentials": {"TmpSecretId": key.secret_id, "TmpSecretKey": key.secret_key, "Token": key.token},
            "ExpiredTime": expires_at,
        }

    async def serve_audio(self, request: Request) -> Response:
        name = request.path_params["name"]
        expires = request.query_params.get("expires", "")
        given, expected = request.query_params.get("sign", ""), self.sign_audio_path(name, expires)
        if not hmac.compare_digest(given.encode(), expected.encode()):
            return make_error_response(403, "AccessDenied", "The URL is not signed by this server.")
        if float(expires) < time.time():
            return make_error_response(403, "AccessDenied", "Request has expired")
        task = self.tasks.find(name)
        if task is None or self.tasks.status(task) is not Status.SUCCESS:
            return make_error_response(404, "NoSuchKey", "The specified key does not exist.")
        audio, fault = self.tasks.audio(task), self.faults.next_for(name)
        if fault is None or not applies_to(fault, request):
            return AudioResponse(audio)
        self.faults.count(name)
        log.info("the download of task %s gets the fault %s", task.task_id, fault)
        if fault is FaultKind.REPLACE:
            await run_in_threadpool(self.tasks.replace_audio, task)
        return make_faulty_response(fault, audio, request)

    def make_audio_url(self, request: Request, task: Task) -> str:
        expires = f"{time.time() + self.options.link_lifetime:.3f}"
        path = AUDIO_PATH.format(name=task.name, audio_format=task.style.audio_format)
        query = f"expires={expires}&sign={self.sign_audio_path(task.name, expires)}"
        return f"{request.url.scheme}://{request.url.netloc}{path}?{query}"

    def sign_audio_path(self, name: str, expires: str) -> str:
        return hmac.digest(self.signing_key, f"{name} {expires}".encode(), "sha256").hex()


async def _read_body(request: Request) -> bytes:
    """Read a body, up to its limit."""
    body = b""
    async for block in request.stream():
        body += block
        if len(body) > MAX_BODY_BYTES:
            raise ApiError("RequestSizeLimitExceeded", f"The request has more than {MAX_BODY_BYTES} bytes.")
    return body
