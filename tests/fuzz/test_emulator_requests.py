"""Requests of broken programs to the emulator."""

import json
import socket

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.emulator.server import RunningEmulator
from airflow_provider_mps.emulator.voices import SYSTEM_VOICES
from airflow_provider_mps.hooks.mps import MpsHook
from tests.fuzz.conftest import FUZZ
from tests.unit.emulator.client import Client

FEW = settings(FUZZ, max_examples=max(100, FUZZ.max_examples // 4))  # each opens a connection
headers = st.dictionaries(
    st.sampled_from(
        ["X-TC-Action", "X-TC-Version", "X-TC-Timestamp", "X-TC-Region", "X-TC-Token", "Authorization", "Range"]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60).map(str.strip)
    | st.sampled_from(
        ["TextToSpeechAsync", "2019-06-12", "-1", "9" * 50, "TC3-HMAC-SHA256 Credential=a/b/c/d, x", "bytes=0-"]
    ),
)


@pytest.fixture(scope="module")
def http():
    """Return a client that opens a connection per request, and loads no certificates, which takes 30 ms."""
    with httpx.Client(verify=False, timeout=60, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        yield client


@pytest.fixture(scope="module")
def running():
    with RunningEmulator(Options(synthesis_time=0, voice="tone", rate_limit=100_000)) as emulator:
        yield emulator


@FEW
@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE"]),
    path=st.sampled_from(
        ["/", "/audio/", "/audio/x.wav?sign=1&expires=9", "/audio/../../etc/passwd", "//", "/%00", "/%ff"]
    ),
    headers=headers,
    body=st.binary(max_size=200)
    | st.dictionaries(st.text(max_size=5), st.text(max_size=5)).map(lambda d: json.dumps(d).encode()),
)
def test_emulator_responds_to_any_request(running, http, method, path, headers, body):
    response = http.request(method, f"{running.url}{path}", headers=headers, content=body)
    assert response.status_code < 500, response.text
    if method == "POST" and path == "/":
        assert response.json()["Response"]["Error"]["Code"]
        assert response.json()["Response"]["RequestId"]


@FEW
@given(
    raw=st.binary(max_size=300) | st.binary(max_size=40).map(lambda noise: b"POST / HTTP/1.1\r\nHost: a\r\n" + noise)
)
def test_emulator_closes_connection_on_any_bytes(running, raw):
    with socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2])), 60) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(60)
        while connection.recv(4096):
            pass


VOICE_ACTIONS = [
    *("DescribeVoices", "CloneVoice", "DesignVoiceAsync", "DescribeDesignTask", "UpdateVoice", "DeleteVoice"),
    "TextToSpeechAsync",
]
PROFILE = ("Name", "Description", "Gender", "Age", "Languages", "Labels", "Scenes")
PARAMETERS = (
    *("VoiceId", "VoiceType", "VoiceName", *PROFILE[1:], "PageNum", "PageSize", "AudioData", "AudioUrl", "Text"),
    *("VoiceProfile", "VoiceFields", "Output", "Prompt", "TaskId", "ExtParam"),
)
texts = st.text(max_size=8) | st.sampled_from(["UklGRg==", "http://a/b", "male", "child", "all", "emulator-amy", "url"])
values = (
    texts
    | st.none()
    | st.booleans()
    | st.integers(-1, 3)
    | st.floats()
    | st.lists(texts, max_size=2)
    | st.dictionaries(st.sampled_from([*PROFILE, "Type", "x"]), texts | st.lists(texts, max_size=2) | st.none())
)


@FEW
@given(
    action=st.sampled_from(VOICE_ACTIONS),
    parameters=st.dictionaries(st.sampled_from(PARAMETERS), values, max_size=5),
)
def test_signed_voice_request_gets_response_or_api_error(running, action, parameters):
    response = Client(running).call(action, parameters)
    assert response["RequestId"]
    assert response.get("ErrorCode") in (None, 0, 100, 110)


def test_emulator_still_responds_afterwards(running, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_MPS_DEFAULT", running.connection_uri)
    assert MpsHook().submit_text_to_speech("hello", "voice-1")
    assert len(MpsHook().list_voices("system")) == len(SYSTEM_VOICES)
