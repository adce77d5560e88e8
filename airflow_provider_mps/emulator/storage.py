"""Responses of the emulated COS storage: the audio, an error, or an injected fault."""

from __future__ import annotations

import asyncio
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import FileResponse, RedirectResponse, Response

from airflow_provider_mps.emulator.faults import FaultKind
from airflow_provider_mps.emulator.transport import Connection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope, Send

    from airflow_provider_mps.emulator.tasks import Audio

AUDIO_PATH = "/async_dubbing/{name}.wav"
MOVED_PATH = "/async_dubbing/moved/{name}.wav"
"""Target of a redirect."""
CRC_HEADER = "x-cos-hash-crc64ecma"
EXTRA_BYTES = b"more than was announced"
SLOW_BYTES_PER_SECOND = 64_000
SLOW_PIECE_BYTES = 4_000

_ERRORS = {
    FaultKind.FORBIDDEN: (HTTPStatus.FORBIDDEN, "AccessDenied", "Request has expired"),
    FaultKind.NOT_FOUND: (HTTPStatus.NOT_FOUND, "NoSuchKey", "The specified key does not exist."),
    FaultKind.UNAVAILABLE: (HTTPStatus.SERVICE_UNAVAILABLE, "SlowDown", "Please reduce your request rate."),
}


def make_error_response(status: int, code: str, message: str) -> Response:
    """Make an error response as COS does, in XML."""
    xml = f"<?xml version='1.0' encoding='utf-8' ?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(xml, status, media_type="application/xml")


class AudioResponse(FileResponse):
    """An audio, whole or the requested range, with length, ETag and CRC-64."""

    chunk_size = 1024 * 1024  # five times faster than Starlette's 64 KiB, since each chunk changes threads

    def __init__(self, audio: Audio) -> None:
        # FileResponse adds Content-Length and Accept-Ranges, and handles Range and If-Range.
        headers = {"ETag": f'"{audio.crc64:016x}"', CRC_HEADER: str(audio.crc64)}
        super().__init__(audio.path, media_type="audio/wav", headers=headers)


def applies_to(kind: FaultKind, request: Request) -> bool:
    """Return whether a fault applies to a request."""
    if kind is FaultKind.IGNORE_RANGE:
        return request.method == "GET" and "Range" in request.headers
    if kind in {FaultKind.REDIRECT, FaultKind.REDIRECT_TO_FILE}:
        moved = MOVED_PATH.format(name=request.path_params["name"])
        return request.method == "GET" and request.url.path != moved
    return request.method == "GET"


def make_faulty_response(kind: FaultKind, audio: Audio, request: Request) -> Response:
    """Respond to a download with a fault. The caller handles ``REPLACE``, which changes the audio itself."""
    if kind in _ERRORS:
        return make_error_response(*_ERRORS[kind])
    if kind is FaultKind.REDIRECT:
        moved = MOVED_PATH.format(name=request.path_params["name"])
        return RedirectResponse(str(request.url.replace(path=moved)), HTTPStatus.FOUND)
    if kind is FaultKind.REDIRECT_TO_FILE:
        return RedirectResponse("file:///etc/hostname", HTTPStatus.FOUND)
    return _FaultyAudioResponse(audio, kind)


class _FaultyAudioResponse(AudioResponse):
    """
    An audio that is sent with a fault.

    :param audio: the requested audio
    :param kind: a fault that sends audio
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
            await super().__call__(scope, receive, self._wrap_send(send, connection))

    def _wrap_send(self, send: Send, connection: Connection) -> Callable[[Message], Awaitable[None]]:
        senders: dict[FaultKind, Callable[[Message], Awaitable[None]]] = {
            FaultKind.TRUNCATE: _HalfSender(send, connection.close),
            FaultKind.REPLACE: _HalfSender(send, connection.close),
            FaultKind.STALL: _HalfSender(send, connection.hold),
            FaultKind.RESET: _HalfSender(send, connection.reset),
            FaultKind.NO_LENGTH: partial(_send_without_length, send),
            FaultKind.TOO_LONG: partial(_send_extra, send, connection),
            FaultKind.SLOW: partial(_send_slowly, send),
        }
        return senders.get(self._kind, send)


class _HalfSender:
    """
    Send the head and half of the body.

    :param send: sends to the client
    :param end: ends the connection afterwards
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


async def _send_without_length(send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        headers = MutableHeaders(raw=message["headers"])
        del headers["Content-Length"]
        message = {**message, "headers": headers.raw}
    await send(message)


async def _send_extra(send: Send, connection: Connection, message: Message) -> None:
    if message["type"] == "http.response.start" or message["more_body"]:
        await send(message)
    else:
        await send({**message, "more_body": True})
        await connection.send_extra(EXTRA_BYTES)


async def _send_slowly(send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        await send(message)
        return
    for first in range(0, len(message["body"]), SLOW_PIECE_BYTES):
        piece = message["body"][first : first + SLOW_PIECE_BYTES]
        await send({**message, "body": piece, "more_body": True})
        await asyncio.sleep(len(piece) / SLOW_BYTES_PER_SECOND)
    if not message["more_body"]:
        await send({**message, "body": b""})
