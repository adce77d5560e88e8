"""The emulator with faults in front: the next API requests meet them, the others pass."""

from __future__ import annotations

import json
from collections import deque

from airflow_provider_mps.emulator.app import Options, make_app


def api_error(code: str) -> tuple[int, bytes]:
    answer = {"Response": {"Error": {"Code": code, "Message": "injected"}, "RequestId": "req-injected"}}
    return 200, json.dumps(answer).encode()


def answer(**fields: object) -> tuple[int, bytes]:
    return 200, json.dumps({"Response": {**fields, "RequestId": "req-injected"}}).encode()


class FaultyEmulator:
    def __init__(self, options: Options) -> None:
        self.app = make_app(options)
        self.faults: deque[tuple[int, bytes]] = deque()
        self.actions: list[str] = []

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http" or scope["path"] != "/":
            await self.app(scope, receive, send)
            return
        self.actions.append(dict(scope["headers"])[b"x-tc-action"].decode())
        if not self.faults:
            await self.app(scope, receive, send)
            return
        status, body = self.faults.popleft()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
