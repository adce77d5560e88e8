"""Helpers for tests of the operators of voices."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.hooks.mps import MpsHook
from tests.faulty_emulator import FaultyEmulator

SAMPLE = b"RIFF" + bytes(4) + b"WAVE" + bytes(100)
IF_EXISTS = ["reuse", "fail", "create"]


class TaskInstance(SimpleNamespace):
    """Collect the XComs that an operator pushes."""

    def __init__(self, max_tries: int = 0, try_number: int = 1) -> None:
        super().__init__(max_tries=max_tries, try_number=try_number, xcoms={}, start_date=None)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


def make_context(store: Any = None, **ti: int) -> Any:
    return {"ti": TaskInstance(**ti), "task_state_store": store}


def list_names(voice_type: str = "clone") -> list[str]:
    return [voice.name for voice in MpsHook().list_voices(voice_type)]


class LosingEmulator(FaultyEmulator):
    """
    The emulator behind a gateway that loses responses: it reports 502 for what MPS may have done.

    :param action: whose responses are lost
    :param delay: number of other requests after which MPS does what was requested; ``None``: never
    """

    def __init__(self, action: str, delay: int | None = 0, losses: int = 1) -> None:
        super().__init__(Options(synthesis_time=0.0, voice="tone"))
        self.action, self.delay, self.losses = action, delay, losses
        self._waiting: list[Any] = []

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http" or scope["path"] != "/":
            await self.app(scope, receive, send)
            return
        action = dict(scope["headers"])[b"x-tc-action"].decode()
        self.actions.append(action)
        if action != self.action or self.losses == 0:
            if self._waiting:
                if self.delay == 0:
                    await self._waiting.pop()
                else:
                    self.delay -= 1
            await self.app(scope, receive, send)
            return
        self.losses -= 1
        message = await receive()
        while message.get("more_body"):
            more = await receive()
            message = {**more, "body": message["body"] + more["body"]}
        if self.delay is not None:
            self._waiting.append(self.app(scope, _reply(message), _ignore))
            if self.delay == 0:
                await self._waiting.pop()
        await send({"type": "http.response.start", "status": 502, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


def _reply(message):
    messages = [message]

    async def receive():
        return messages.pop() if messages else await asyncio.Event().wait()

    return receive


async def _ignore(_):
    pass
