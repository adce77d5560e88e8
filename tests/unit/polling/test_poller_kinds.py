"""Tasks of two kinds on one connection: each kind has a poll loop and a rate limit of its own."""

import asyncio

from airflow_provider_mps.api.voice_actions import make_describe_design_call
from airflow_provider_mps.polling import poller
from airflow_provider_mps.polling.poller import wait_for_task
from airflow_provider_mps.speech.task import TextToSpeechTask, VoiceDesignTask
from tests.scripted_server import ScriptedServer, make_api_error
from tests.waiting import FAST, SUCCESS, assert_nothing_runs, names

QUERIES = ("DescribeTextToSpeechAsyncTask", "DescribeDesignTask")


async def wait_for_both(*task_ids):
    waits = [wait_for_task(task_id, FAST) for task_id in task_ids]
    waits += [wait_for_task(task_id, FAST, make_call=make_describe_design_call) for task_id in task_ids]
    async with asyncio.timeout(60):
        return await asyncio.gather(*waits, return_exceptions=True)


def test_poller_of_each_kind_polls_with_its_action(connect):
    async def wait():
        waiting = asyncio.create_task(wait_for_both("task-0"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        keys = list(poller._POLLERS[asyncio.get_running_loop()])
        outcomes = await waiting
        assert_nothing_runs()
        return keys, outcomes

    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri())
        keys, outcomes = asyncio.run(wait())
        assert sorted(request.headers["x-tc-action"] for request in server.requests) == sorted(QUERIES)
    assert [type(task) for task in outcomes] == [TextToSpeechTask, VoiceDesignTask]
    assert sorted(keys) == sorted(("mps_default", None, action) for action in QUERIES)


def test_rate_limit_applies_to_each_kind(connect):
    """With a common limit of 10 requests per second, 10 polls of each kind would take twice as long."""
    seconds = {}

    async def time_waits():
        loop = asyncio.get_running_loop()
        for kind, wait in (
            ("one", asyncio.gather(*(wait_for_task(name, FAST) for name in names(10)))),
            ("both", wait_for_both(*names(10))),
        ):
            start = loop.time()
            await wait
            seconds[kind] = loop.time() - start

    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri("requests_per_second=10"))
        asyncio.run(time_waits())
    assert seconds["both"] < 1.6 * seconds["one"]


def test_permanent_error_of_one_kind_does_not_end_waits_of_the_other(connect):
    def respond(request):
        is_design = request.headers["x-tc-action"] == "DescribeDesignTask"
        return make_api_error("UnsupportedRegion") if is_design else SUCCESS

    with ScriptedServer(respond) as server:
        connect(server.connection_uri())
        text, design = asyncio.run(wait_for_both("task-0"))
    assert isinstance(text, TextToSpeechTask)
    assert design.code == "UnsupportedRegion"
