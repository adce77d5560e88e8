import asyncio
import logging

from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.voices import VoiceLookup, use_earlier_voice
from airflow_provider_mps.exceptions import InvalidRequestError, MpsApiError, make_api_error
from airflow_provider_mps.speech.request import SpeechRequest
from airflow_provider_mps.speech.voices import Voice


class Hook:
    """Knows three voices, and counts queries."""

    log = logging.getLogger(__name__)

    def __init__(self, error=None):
        self.queries = 0
        self.error = error

    async def alist_voices(self):
        self.queries += 1
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return [Voice("id-1", "Anna"), Voice("id-2", "Twin"), Voice("id-3", "Twin")]


def find(hook, *names):
    """Look up the names concurrently, as the lines of a batch do."""

    async def main():
        voices = VoiceLookup(hook)
        return await asyncio.gather(*map(voices.find_voice_id, names), return_exceptions=True)

    return asyncio.run(main())


def test_concurrent_lines_list_the_voices_once(caplog):
    hook = Hook()
    caplog.set_level("INFO")
    assert find(hook, "Anna", "Anna") == ["id-1", "id-1"]
    assert hook.queries == 1
    assert [record.getMessage() for record in caplog.records] == ["Voice 'Anna' has the VoiceId id-1"]


def test_unknown_and_ambiguous_names_are_invalid():
    hook = Hook()
    unknown, ambiguous, anna = find(hook, "anna", "Twin", "Anna")
    assert isinstance(unknown, InvalidRequestError)
    assert "'Anna' ('id-1')" in str(unknown)
    assert isinstance(ambiguous, InvalidRequestError)
    assert "'id-2'" in str(ambiguous)
    assert anna == "id-1"
    assert hook.queries == 1


def test_api_error_ends_all_look_ups():
    """Each query during an outage takes some seconds."""
    hook = Hook(make_api_error("ClientNetworkError.OutcomeUnknown", "no response"))
    assert all(isinstance(error, MpsApiError) for error in find(hook, "Anna", "Ben", "Anna"))
    assert hook.queries == 1


def test_cancelled_query_is_repeated_by_the_next_line():
    class Hanging(Hook):
        async def alist_voices(self):
            if self.queries == 0:
                self.queries += 1
                await asyncio.Event().wait()
            return await super().alist_voices()

    async def main():
        hook = Hanging()
        voices = VoiceLookup(hook)
        first = asyncio.create_task(voices.find_voice_id("Anna"))
        await asyncio.sleep(0)
        second = asyncio.create_task(voices.find_voice_id("Anna"))
        await asyncio.sleep(0)
        first.cancel()
        return await second, hook.queries

    assert asyncio.run(main()) == ("id-1", 2)


def test_earlier_voice_is_that_of_the_row():
    request = SpeechRequest("hello", "", voice_name="Anna")
    row = Row("a", 1, LineStatus.PROCESSING, task_id="task-1", voice_id="voice-1")
    earlier = use_earlier_voice(request, row)
    assert earlier is not None
    assert earlier.voice_id == "voice-1"
    assert use_earlier_voice(request, None) is None
    assert use_earlier_voice(request, Row("a", 1, LineStatus.PENDING)) is None
