"""Requests to servers on this machine do not go to a proxy that the machine has."""

import os

import pytest

from airflow_provider_mps.hooks.mps import MpsHook
from tests.answers import PROCESSING
from tests.scripted_server import ScriptedServer

UNREACHABLE_PROXY = "http://127.0.0.1:1"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_tests_reach_their_servers_despite_a_proxy(connect, monkeypatch, host):
    monkeypatch.setenv("HTTP_PROXY", UNREACHABLE_PROXY)
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri().replace("127.0.0.1", host))
        MpsHook().describe_text_to_speech_task("1-DubbingAsync-1")
        assert len(server.requests) == 1


@pytest.mark.usefixtures("no_network_variables")
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "127.0.0.1"),
        ({"NO_PROXY": "a.test, b.test"}, "a.test, b.test,127.0.0.1"),
        ({"NO_PROXY": "upper.test", "no_proxy": "lower.test"}, "lower.test,127.0.0.1"),
        ({"no_proxy": "127.0.0.1 a.test"}, "127.0.0.1 a.test"),
        ({"NO_PROXY": "*"}, "*"),
    ],
)
def test_emulator_fixture_bypasses_a_proxy(start_mps_emulator, monkeypatch, variables, expected):
    for name, value in {"HTTP_PROXY": UNREACHABLE_PROXY, **variables}.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        start_mps_emulator()
        assert MpsHook().submit_text_to_speech("Hello.", "voice-1")
        assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == expected
