"""The emulator with faults in front: the next API requests meet them, the others pass."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace

from airflow_provider_mps.emulator.app import Options, make_app


def make_api_error(code: str) -> tuple[int, bytes]:
    answer = {"Response": {"Error": {"Code": code, "Message": "injected"}, "RequestId": "req-injected"}}
    return 200, json.dumps(answer).encode()


def answer(**fields: object) -> tuple[int, bytes]:
    return 200, json.dumps({"Response": {**fields, "RequestId": "req-injected"}}).encode()


class FaultyEmulator:
    def __init__(self, options: Options) -> None:
        self.app = make_app(options)
        self.faults: deque[tuple[int, bytes]] = deque()
        self.faults_of: Callable[[int], tuple[int, bytes] | None] = lambda _: None
        """By the number of the request, for what comes again and again."""
        self.actions: list[str] = []
        self.arrivals: list[float] = []
        self.asked_for: Counter[str] = Counter()
        self.response_delay = 0.0
        """Seconds between accepting a text and responding."""
        self.refused = 0
        """How many requests were over the quota."""

    def finish_all_tasks(self) -> None:
        """Let every task that has been submitted be done."""
        tasks = self.app.state.tasks
        for name, task in tasks._tasks.items():
            tasks._tasks[name] = replace(task, done_at=0.0)

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http" or scope["path"] != "/":
            await self.app(scope, receive, send)
            return
        self.arrivals.append(time.monotonic())
        self.actions.append(dict(scope["headers"])[b"x-tc-action"].decode())
        fault = self.faults.popleft() if self.faults else self.faults_of(len(self.actions))
        if fault is None:
            await self.app(scope, self._reading(receive), self._counting(send, self.actions[-1]))
            return
        status, body = fault
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _reading(self, receive):
        async def read():
            message = await receive()
            if found := re.search(rb'"TaskId": *"([^"]+)"', message.get("body", b"")):
                self.asked_for[found[1].decode()] += 1
            return message

        return read

    def _counting(self, send, action):
        async def count(message) -> None:
            if message["type"] == "http.response.start" and action == "TextToSpeechAsync":
                await asyncio.sleep(self.response_delay)
            self.refused += b"RequestLimitExceeded" in message.get("body", b"")
            await send(message)

        return count
