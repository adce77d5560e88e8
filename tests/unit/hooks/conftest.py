import asyncio

import pytest

from airflow_provider_mps.hooks.mps import MpsHook


@pytest.fixture(params=["sync", "async"])
def calls(request):
    """The hook's calls, through its synchronous or its asynchronous methods."""
    return SyncCalls() if request.param == "sync" else AsyncCalls()


class SyncCalls:
    def describe(self, task_id="task-1"):
        return MpsHook().describe_text_to_speech_task(task_id)

    def submit(self):
        return MpsHook().submit_text_to_speech("hello", "voice")


class AsyncCalls:
    def describe(self, task_id="task-1"):
        return asyncio.run(self._with_hook(lambda hook: hook.adescribe_text_to_speech_task(task_id)))

    def submit(self):
        return asyncio.run(self._with_hook(lambda hook: hook.asubmit_text_to_speech("hello", "voice")))

    async def _with_hook(self, call):
        hook = MpsHook()
        try:
            return await call(hook)
        finally:
            await hook.aclose()
