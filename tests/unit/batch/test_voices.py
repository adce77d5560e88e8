import asyncio

from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.voices import VoiceLookup, use_earlier_voice
from airflow_provider_mps.exceptions import InvalidRequestError, MpsApiError, make_api_error
from airflow_provider_mps.speech.request import SpeechRequest
from airflow_provider_mps.speech.voices import Voice


class Hook:
    """Knows one voice, and counts look-ups."""

    def __init__(self, error=None):
        self.names = []
        self.error = error
        self.concurrent = self.max_concurrent = 0

    async def afind_voice(self, name):
        self.names.append(name)
        self.concurrent += 1
        self.max_concurrent = max(self.max_concurrent, self.concurrent)
        await asyncio.sleep(0)
        self.concurrent -= 1
        if self.error:
            raise self.error
        if not name.startswith("Anna"):
            raise InvalidRequestError(f"no voice is named {name}")
        return Voice(f"id of {name}", name)


def find(hook, *names):
    """Look up the names concurrently, as the lines of a batch do."""

    async def main():
        voices = VoiceLookup(hook)
        return await asyncio.gather(*map(voices.find_voice_id, names), return_exceptions=True)

    return asyncio.run(main())


def test_concurrent_lines_look_up_each_name_once():
    hook = Hook()
    assert find(hook, "Anna", "Anna 2", "Anna") == ["id of Anna", "id of Anna 2", "id of Anna"]
    assert hook.names == ["Anna", "Anna 2"]
    assert hook.max_concurrent == 1


def test_unknown_name_is_looked_up_once():
    hook = Hook()
    errors = find(hook, "Ben", "Ben", "Anna")
    assert [str(error) for error in errors[:2]] == ["no voice is named Ben"] * 2
    assert all(isinstance(error, InvalidRequestError) for error in errors[:2])
    assert errors[2] == "id of Anna"
    assert hook.names == ["Ben", "Anna"]


def test_api_error_ends_all_look_ups():
    """Each look-up during an outage takes some seconds."""
    hook = Hook(make_api_error("ClientNetworkError.OutcomeUnknown", "no response"))
    assert all(isinstance(error, MpsApiError) for error in find(hook, "Anna", "Ben", "Anna 2"))
    assert hook.names == ["Anna"]


def test_known_name_does_not_wait_for_look_ups_of_others():
    """A batch may have hundreds of names, and a look-up that is retried takes some seconds."""

    class SlowForOthers(Hook):
        async def afind_voice(self, name):
            if name == "Anna 2":
                await asyncio.Event().wait()
            return await super().afind_voice(name)

    async def main():
        voices = VoiceLookup(SlowForOthers())
        await voices.find_voice_id("Anna")
        other = asyncio.create_task(voices.find_voice_id("Anna 2"))
        await asyncio.sleep(0)
        known = asyncio.create_task(voices.find_voice_id("Anna"))
        await asyncio.sleep(0)
        is_done = known.done()
        other.cancel()
        return is_done, await known

    assert asyncio.run(main()) == (True, "id of Anna")


def test_cancelled_look_up_is_repeated_by_the_next_line():
    class Hanging(Hook):
        async def afind_voice(self, name):
            if not self.names:
                self.names.append(name)
                await asyncio.Event().wait()
            return await super().afind_voice(name)

    async def main():
        hook = Hanging()
        voices = VoiceLookup(hook)
        first = asyncio.create_task(voices.find_voice_id("Anna"))
        await asyncio.sleep(0)
        second = asyncio.create_task(voices.find_voice_id("Anna"))
        await asyncio.sleep(0)
        first.cancel()
        return await second, hook.names

    assert asyncio.run(main()) == ("id of Anna", ["Anna", "Anna"])


def test_earlier_voice_is_that_of_the_row():
    request = SpeechRequest("hello", "", voice_name="Anna")
    row = Row("a", 1, LineStatus.PROCESSING, task_id="task-1", voice_id="voice-1")
    earlier = use_earlier_voice(request, row)
    assert earlier is not None
    assert earlier.voice_id == "voice-1"
    assert use_earlier_voice(request, None) is None
    assert use_earlier_voice(request, Row("a", 1, LineStatus.PENDING)) is None
