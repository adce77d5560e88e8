"""Faults of audio downloads: their kinds, their sequence, and the responses that inject them."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse

from airflow_provider_mps.emulator.audio_response import CRC_HEADER, MOVED_PATH, AudioResponse, make_error_response
from airflow_provider_mps.emulator.transport import Connection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Message, Receive, Scope, Send

    from airflow_provider_mps.emulator.tasks import Audio

EXTRA_BYTES = b"more than was announced"
SLOW_BYTES_PER_SECOND = 64_000
SLOW_PIECE_BYTES = 4_000


class FaultKind(StrEnum):
    """Kinds of download faults. *Half* means half of the response: of the whole audio, or of the requested range."""

    TRUNCATE = "truncate"
    """Announce all, send half, and close the connection."""
    STALL = "stall"
    """Send half and then nothing; keep the connection open."""
    RESET = "reset"
    """Send half and reset the connection."""
    WRONG_CRC = "wrong-crc"
    """Send a wrong CRC-64."""
    NO_CRC = "no-crc"
    """Send no CRC-64."""
    NO_LENGTH = "no-length"
    """Send chunks without a Content-Length."""
    IGNORE_RANGE = "ignore-range"
    """Send the whole audio although a range was requested."""
    REPLACE = "replace"
    """As ``TRUNCATE``; from then on the URL serves another audio."""
    FORBIDDEN = "forbidden"
    """Respond 403, as if the URL had expired."""
    NOT_FOUND = "not-found"
    """Respond 404."""
    UNAVAILABLE = "unavailable"
    """Respond 503."""
    REDIRECT = "redirect"
    """Redirect to another URL of the audio."""
    REDIRECT_TO_FILE = "redirect-to-file"
    """Redirect to a ``file://`` URL."""
    TOO_LONG = "too-long"
    """Send more than announced, and close the connection."""
    SLOW = "slow"
    """Send all of it, in small pieces, at 64 kB/s."""


@dataclass(frozen=True)
class AudioFault:
    """A fault, and how many downloads of an audio get it."""

    kind: FaultKind
    times: int | None = 1
    """``None``: always."""

    @classmethod
    def parse(cls, text: str) -> AudioFault:
        """
        Parse ``KIND`` or ``KIND:TIMES``, where ``TIMES`` is a number or ``always``.

        :raises ValueError: if it is neither; the message names the kinds
        """
        match = re.fullmatch(r"(?P<kind>[^:]+)(:(?P<times>[1-9][0-9]{0,8}|always))?", text)
        if match is None or match["kind"] not in set(FaultKind):
            raise ValueError(
                f"{text!r} is not an audio fault. Use KIND or KIND:TIMES, where TIMES is a number from 1 or 'always', "
                f"and KIND one of: {', '.join(FaultKind)}"
            )
        times = match["times"] or "1"
        return cls(FaultKind(match["kind"]), None if times == "always" else int(times))


class FaultSequence:
    """
    The faults that the downloads of each audio get, one after the other.

    :param faults: in this order
    """

    def __init__(self, faults: Iterable[AudioFault]) -> None:
        self._faults = tuple(faults)
        self._counts: Counter[str] = Counter()

    def next_for(self, name: str) -> FaultKind | None:
        """Return the next fault of an audio; ``None`` if none is left."""
        before = self._counts[name]
        for fault in self._faults:
            if fault.times is None or before < fault.times:
                return fault.kind
            before -= fault.times
        return None

    def count(self, name: str) -> None:
        """Record that a download of an audio got its fault."""
        self._counts[name] += 1


_ERRORS = {
    FaultKind.FORBIDDEN: (HTTPStatus.FORBIDDEN, "AccessDenied", "Request has expired"),
    FaultKind.NOT_FOUND: (HTTPStatus.NOT_FOUND, "NoSuchKey", "The specified key does not exist."),
    FaultKind.UNAVAILABLE: (HTTPStatus.SERVICE_UNAVAILABLE, "SlowDown", "Please reduce your request rate."),
}


def applies_to(kind: FaultKind, request: Request) -> bool:
    """Return whether a fault applies to a request."""
    if kind is FaultKind.IGNORE_RANGE:
        return request.method == "GET" and "Range" in request.headers
    if kind in {FaultKind.REDIRECT, FaultKind.REDIRECT_TO_FILE}:
        moved = MOVED_PATH.format(**request.path_params)
        return request.method == "GET" and request.url.path != moved
    return request.method == "GET"


def make_faulty_response(kind: FaultKind, audio: Audio, request: Request) -> Response:
    """Respond to a download with a fault. The caller handles ``REPLACE``, which changes the audio itself."""
    if kind in _ERRORS:
        return make_error_response(*_ERRORS[kind])
    if kind is FaultKind.REDIRECT:
        moved = MOVED_PATH.format(**request.path_params)
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
