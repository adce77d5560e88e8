"""How many lines a kill can leave unknown: those with a durable row ``submitting`` and no durable outcome."""

import asyncio
import logging

import pytest

from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.submitter import IN_FLIGHT, Submitter
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.speech.parsing import OnUnknown
from airflow_provider_mps.speech.request import SpeechRequest
from tests.answers import ACCEPTED
from tests.scripted_server import ScriptedServer, make_api_error

LINES = 3 * IN_FLIGHT


class BatchState:
    """Keeps what is durable, and holds rows of outcomes back until they are allowed."""

    def __init__(self):
        self.durable = {}
        self.held = 0
        self.allowed = asyncio.Event()

    async def record(self, row):
        if row.status is not LineStatus.SUBMITTING:
            self.held += 1
            await self.allowed.wait()
        self.durable[row.id] = row.status

    def record_in_memory(self, row):
        pass

    def unknown_if_killed(self):
        return list(self.durable.values()).count(LineStatus.SUBMITTING)


@pytest.mark.parametrize("reply", [ACCEPTED, make_api_error("InvalidParameterValue")], ids=["accepted", "rejected"])
def test_unknown_lines_after_a_kill_are_at_most_those_in_flight(connect, reply):
    async def main():
        state, hook = BatchState(), MpsHook()

        async def may_submit():
            pass

        submitter = Submitter(hook, state, may_submit, OnUnknown.FAIL, logging.getLogger("batch"))
        request = SpeechRequest("hello", "voice-1")
        lines = [Row(f"{number}", number, LineStatus.PENDING) for number in range(LINES)]
        submitting = [asyncio.create_task(submitter.submit(request, line)) for line in lines]
        async with asyncio.timeout(60):
            while state.held < IN_FLIGHT:
                await asyncio.sleep(0.01)
        # Ten times as long as the next line would need.
        await asyncio.sleep(0.5)
        assert state.unknown_if_killed() == state.held == IN_FLIGHT
        assert len(server.requests) == IN_FLIGHT
        state.allowed.set()
        await asyncio.gather(*submitting)
        assert state.unknown_if_killed() == 0
        await hook.aclose()

    with ScriptedServer(reply) as server:
        server.script = [lambda _: reply]
        connect(server.connection_uri("requests_per_second=100&timeout=60"))
        asyncio.run(main())
