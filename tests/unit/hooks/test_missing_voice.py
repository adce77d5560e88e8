"""An MPS that responds to the look-up of a missing VoiceId with an error, not with an empty list."""

import asyncio

import pytest

from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.voices import DeleteVoiceOperator
from tests.scripted_server import ScriptedServer, make_api_error


def get_voice():
    return MpsHook().get_voice("voice-7")


def await_voice():
    async def get():
        hook = MpsHook()
        try:
            return await hook.aget_voice("voice-7")
        finally:
            await hook.aclose()

    return asyncio.run(get())


@pytest.fixture
def respond(connect):
    """Start an MPS that responds to each request with an error code."""
    with ScriptedServer(None) as server:
        connect(server.connection_uri())

        def respond(code):
            server.script = [make_api_error(code)]
            return server

        yield respond


@pytest.mark.parametrize("get", [get_voice, await_voice])
@pytest.mark.parametrize("code", ["ResourceNotFound", "ResourceNotFound.Voice"])
def test_get_voice_not_found_returns_none(respond, get, code):
    respond(code)
    assert get() is None


@pytest.mark.parametrize("get", [get_voice, await_voice])
@pytest.mark.parametrize("code", ["InvalidParameterValue", "ResourceNotFoundElsewhere.Voice", "UnauthorizedOperation"])
def test_get_voice_other_error_is_raised(respond, get, code):
    respond(code)
    with pytest.raises(Exception, match=code):
        get()


def test_delete_voice_not_found_succeeds(respond):
    server = respond("ResourceNotFound")
    assert DeleteVoiceOperator(task_id="delete", voice_id="voice-7").execute({}) is None
    assert len(server.requests) == 1
