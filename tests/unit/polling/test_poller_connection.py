import asyncio

import pytest

from airflow_provider_mps.polling.poller import wait_for_task
from tests.scripted_server import ScriptedServer
from tests.waiting import FAST, SUCCESS


@pytest.mark.parametrize("none", [None, "", "None"])
def test_wait_without_connection_id_uses_default(connect, none):
    with ScriptedServer(SUCCESS) as server:
        connect(server.connection_uri("requests_per_second=100"))

        async def wait():
            return await asyncio.gather(wait_for_task("task-1", FAST, none), wait_for_task("task-2", FAST))

        assert {task.task_id for task in asyncio.run(wait())} == {"task-1", "task-2"}
