"""What the storage behind the links answers, as Tencent's COS does: the audio, a refusal, or a fault on purpose."""

from __future__ import annotations

import asyncio
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import FileResponse, RedirectResponse, Response

from airflow_provider_mps.emulator.connection import Connection
from airflow_provider_mps.emulator.faults import FaultKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope, Send

    from airflow_provider_mps.emulator.tasks import Audio

AUDIO_PATH = "/async_dubbing/{name}.wav"
MOVED_PATH = "/async_dubbing/moved/{name}.wav"
"""Where a redirect leads."""
CRC_HEADER = "x-cos-hash-crc64ecma"
EXTRA = b"more than was announced"
SLOW_RATE = 64_000
"""Bytes a second."""
SLOW_PIECE = 4_000

_REFUSALS = {
    FaultKind.FORBIDDEN: (HTTPStatus.FORBIDDEN, "AccessDenied", "Request has expired"),
    FaultKind.NOT_FOUND: (HTTPStatus.NOT_FOUND, "NoSuchKey", "The specified key does not exist."),
    FaultKind.UNAVAILABLE: (HTTPStatus.SERVICE_UNAVAILABLE, "SlowDown", "Please reduce your request rate."),
}


def refusal(status: int, code: str, message: str) -> Response:
    """Word a refusal as COS does, in XML."""
    xml = f"<?xml version='1.0' encoding='utf-8' ?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(xml, status, media_type="application/xml")


class AudioAnswer(FileResponse):
    """An audio, whole or the range that was asked for, with length, ETag and CRC-64."""

    chunk_size = 1024 * 1024  # Starlette's own is a sixteenth, and five times slower: each is a change of threads

    def __init__(self, audio: Audio) -> None:
        # FileResponse adds Content-Length and Accept-Ranges, and answers Range and If-Range.
        headers = {"ETag": f'"{audio.crc64:016x}"', CRC_HEADER: str(audio.crc64)}
        super().__init__(audio.path, media_type="audio/wav", headers=headers)


def can_meet(kind: FaultKind, request: Request) -> bool:
    """Tell whether a request would notice a fault."""
    if kind is FaultKind.IGNORE_RANGE:
        return request.method == "GET" and "Range" in request.headers
    if kind in {FaultKind.REDIRECT, FaultKind.REDIRECT_TO_FILE}:
        moved = MOVED_PATH.format(name=request.path_params["name"])
        return request.method == "GET" and request.url.path != moved
    return request.method == "GET"


def faulty_answer(kind: FaultKind, audio: Audio, request: Request) -> Response:
    """Answer a request for an audio with a fault. ``REPLACE`` is up to the caller, for it changes the audio itself."""
    if kind in _REFUSALS:
        return refusal(*_REFUSALS[kind])
    if kind is FaultKind.REDIRECT:
        moved = MOVED_PATH.format(name=request.path_params["name"])
        return RedirectResponse(str(request.url.replace(path=moved)), HTTPStatus.FOUND)
    if kind is FaultKind.REDIRECT_TO_FILE:
        return RedirectResponse("file:///etc/hostname", HTTPStatus.FOUND)
    return _FaultyAudio(audio, kind)


class _FaultyAudio(AudioAnswer):
    """
    An audio that meets a fault on its way.

    :param audio: what is asked for
    :param kind: none that is answered without the audio
    """

    def __init__(self, audio: Audio, kind: FaultKind) -> None:
        super().__init__(audio)
        self._kind = kind
        if kind is FaultKind.WRONG_CRC:
            self.headers[CRC_HEADER] = str(audio.crc64 ^ 1)
        elif kind is FaultKind.NO_CRC:
            del self.headers[CRC_HEADER]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._kind is FaultKind.IGNORE_RANGE:
            scope = {**scope, "headers": [header for header in scope["headers"] if header[0] != b"range"]}
        with Connection(scope) as connection:
            await super().__call__(scope, receive, self._spoiling(send, connection))

    def _spoiling(self, send: Send, connection: Connection) -> Callable[[Message], Awaitable[None]]:
        ways: dict[FaultKind, Callable[[Message], Awaitable[None]]] = {
            FaultKind.TRUNCATE: _Half(send, connection.close),
            FaultKind.REPLACE: _Half(send, connection.close),
            FaultKind.STALL: _Half(send, connection.hold),
            FaultKind.RESET: _Half(send, connection.reset),
            FaultKind.NO_LENGTH: partial(_without_length, send),
            FaultKind.TOO_LONG: partial(_with_extra, send, connection),
            FaultKind.SLOW: partial(_slowly, send),
        }
        return ways.get(self._kind, send)


class _Half:
    """
    Sends the head and half of the body.

    :param send: the way to the client
    :param end: what becomes of the connection then
    """

    def __init__(self, send: Send, end: Callable[[], Awaitable[None]]) -> None:
        self._send = send
        self._end = end
        self._left = 0
        self._ended = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._left = int(Headers(raw=message["headers"])["Content-Length"]) // 2
            await self._send(message)
        elif not self._ended:
            body = message["body"][: self._left]
            self._left -= len(body)
            await self._send({**message, "body": body, "more_body": True})
            if not self._left:
                self._ended = True
                await self._end()


async def _without_length(send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        headers = MutableHeaders(raw=message["headers"])
        del headers["Content-Length"]
        message = {**message, "headers": headers.raw}
    await send(message)


async def _with_extra(send: Send, connection: Connection, message: Message) -> None:
    if message["type"] == "http.response.start" or message["more_body"]:
        await send(message)
    else:
        await send({**message, "more_body": True})
        await connection.overfill(EXTRA)


async def _slowly(send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        await send(message)
        return
    for first in range(0, len(message["body"]), SLOW_PIECE):
        piece = message["body"][first : first + SLOW_PIECE]
        await send({**message, "body": piece, "more_body": True})
        await asyncio.sleep(len(piece) / SLOW_RATE)
    if not message["more_body"]:
        await send({**message, "body": b""})
