import json
import threading
import time
import wave
from io import BytesIO
from types import SimpleNamespace

import pytest
from fastcrc import crc64
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_mps.emulator import app, tasks
from tests.unit.emulator.client import SUBMIT, Client, plain_http


@pytest.fixture
def client(emulator):
    return Client(emulator)


def test_submit_and_describe_respond_as_documented(client):
    accepted = client.call("TextToSpeechAsync", SUBMIT)
    assert accepted.keys() == {"ErrorCode", "Msg", "TaskId", "RequestId"}
    response = client.finished(accepted["TaskId"])
    assert response.keys() == {"ErrorCode", "Msg", "Status", "AudioUrl", "VoiceId", "ExtInfo", "RequestId"}
    assert (response["Status"], response["ErrorCode"], response["VoiceId"]) == ("success", 0, "v")
    assert json.loads(response["ExtInfo"])["duration"] > 0


def test_error_code_is_100_while_processing(start_emulator):
    client = Client(start_emulator(synthesis_time=60))
    task_id = client.call("TextToSpeechAsync", SUBMIT)["TaskId"]
    response = client.call("DescribeTextToSpeechAsyncTask", {"TaskId": task_id})
    assert (response["Status"], response["ErrorCode"], response["AudioUrl"]) == ("processing", 100, "")


def test_text_with_fail_prefix_fails(client):
    task_id = client.call("TextToSpeechAsync", {**SUBMIT, "Text": "[fail] hello"})["TaskId"]
    response = client.finished(task_id)
    assert response["Status"] == "fail"
    assert response["ErrorCode"] not in (0, 100)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"authorization": ""}, "AuthFailure.InvalidAuthorization"),
        ({"secret_id": "nobody"}, "AuthFailure.SecretIdNotFound"),
        ({"key": "wrong"}, "AuthFailure.SignatureFailure"),
        ({"sent": b'{"Text":"other","VoiceId":"v"}'}, "AuthFailure.SignatureFailure"),
        ({"date": "1999-01-01"}, "AuthFailure.SignatureFailure"),
        ({"skew": -330}, "AuthFailure.SignatureExpire"),
        ({"skew": 330}, "AuthFailure.SignatureExpire"),
        ({"headers": {"x-tc-token": "unexpected"}}, "AuthFailure.TokenFailure"),
        ({"action": "NoSuchAction"}, "InvalidAction"),
        ({"service": "cvm"}, "InvalidAction"),
        ({"action": ""}, "MissingParameter"),
        ({"headers": {"x-tc-version": ""}}, "MissingParameter"),
        ({"parameters": {**SUBMIT, "ExtParam": "[]"}}, "InvalidParameterValue"),
        ({"headers": {"x-tc-version": "2020-01-01"}}, "NoSuchVersion"),
        ({"headers": {"content-type": "text/plain"}}, "InvalidParameter"),
        ({"body": b"not json"}, "InvalidParameter"),
        ({"body": b"[]"}, "InvalidParameter"),
        ({"parameters": {"Text": "hello"}}, "MissingParameter"),
        ({"parameters": {**SUBMIT, "Text": ""}}, "InvalidParameterValue"),
        ({"parameters": {**SUBMIT, "Text": 5}}, "InvalidParameter"),
        ({"parameters": {**SUBMIT, "Text": " "}}, "InvalidParameterValue"),
        ({"parameters": {**SUBMIT, "Text": "\ud800"}}, "InvalidParameterValue"),
        ({"parameters": {**SUBMIT, "\ud800": "x"}}, "UnknownParameter"),
        ({"parameters": {**SUBMIT, "ExtParam": '{"synExt":{"sampleRate":16000.0}}'}}, "InvalidParameterValue"),
        ({"parameters": {**SUBMIT, "ExtParam": '{"synExt":{"duration":true}}'}}, "InvalidParameterValue"),
        ({"parameters": {**SUBMIT, "Color": "red"}}, "UnknownParameter"),
        ({"parameters": {**SUBMIT, "ExtParam": "{"}}, "InvalidParameterValue"),
        ({"parameters": {**SUBMIT, "ExtParam": '{"synExt":{"sampleRate":1}}'}}, "InvalidParameterValue"),
        ({"parameters": {**SUBMIT, "ExtParam": '{"synExt":{"pitch":13}}'}}, "InvalidParameterValue"),
        ({"parameters": {**SUBMIT, "ExtParam": '{"synExt":{"duration":-1}}'}}, "InvalidParameterValue"),
        ({"action": "DescribeTextToSpeechAsyncTask", "parameters": {"TaskId": "nobodys"}}, "ResourceNotFound"),
    ],
)
def test_invalid_request_gets_the_documented_error_code(client, changes, code):
    assert client.code(**changes) == code


@pytest.mark.parametrize("timestamp", ["", "abc", "\u00b2", "9" * 400])
def test_timestamp_that_is_not_a_number_is_rejected(emulator, timestamp):
    headers = {"x-tc-timestamp": timestamp.encode(), "content-type": "application/json"}
    response = plain_http.post(emulator.url, content=b"{}", headers=headers)
    assert response.json()["Response"]["Error"]["Code"] == "MissingParameter"


def test_request_is_read_only_up_to_its_limit(emulator):
    def far_too_much():
        for _ in range(100):
            yield bytes(1024 * 1024)

    response = plain_http.post(emulator.url, content=far_too_much())
    assert response.json()["Response"]["Error"]["Code"] == "RequestSizeLimitExceeded"


def test_latency_delays_every_response(start_emulator):
    client = Client(start_emulator(latency=0.3))
    started = time.monotonic()
    client.call("DescribeTextToSpeechAsyncTask", {"TaskId": "none"})
    assert time.monotonic() - started >= 0.3


def test_long_text_is_synthesised_in_the_background(start_emulator, monkeypatch):
    may_end, speak = threading.Event(), tasks.speak

    def speak_long(*arguments, **options):
        assert may_end.wait(60)
        return speak(*arguments, **options)

    monkeypatch.setattr(tasks, "speak", speak_long)
    client = Client(start_emulator(synthesis_time=0.001))
    long = client.call("TextToSpeechAsync", {**SUBMIT, "Text": "a long story"})["TaskId"]
    assert client.call("DescribeTextToSpeechAsyncTask", {"TaskId": long})["Status"] == "processing"
    client.call("TextToSpeechAsync", {**SUBMIT, "Text": "short"})
    may_end.set()
    assert client.finished(long)["Status"] == "success"


def test_clock_skew_of_five_minutes_is_accepted(client):
    assert client.code(skew=-270) is None


def test_token_of_the_key_is_required(start_emulator):
    client = Client(start_emulator(token="right"))
    assert client.code() == "AuthFailure.TokenFailure"
    assert client.code(headers={"x-tc-token": "right"}) is None


def let_time_pass(monkeypatch, seconds):
    """Move the clock of this process, which the emulator and its clients share."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + seconds)


def test_assumed_role_keys_work_until_they_expire(client, monkeypatch):
    role = {"RoleArn": "qcs::cam::uin/1:roleName/a", "RoleSessionName": "me", "DurationSeconds": 3600}
    changes = {"service": "sts", "headers": {"x-tc-version": "2018-08-13"}}
    keys = client.call("AssumeRole", role, **changes)["Credentials"]
    temporary = {"secret_id": keys["TmpSecretId"], "key": keys["TmpSecretKey"]}
    assert client.code(**temporary) == "AuthFailure.TokenFailure"
    assert client.code(**temporary, headers={"x-tc-token": keys["Token"]}) is None
    let_time_pass(monkeypatch, 3601)
    assert client.code(**temporary, headers={"x-tc-token": keys["Token"]}) == "AuthFailure.TokenFailure"


def test_requests_over_the_quota_are_throttled_per_action(start_emulator, monkeypatch):
    monkeypatch.setattr(app, "time", SimpleNamespace(time=time.time, monotonic=lambda: 1000.0))  # all in one second
    client = Client(start_emulator(rate_limit=3))
    codes = [client.code() for _ in range(5)]
    assert codes == [None, None, None, "RequestLimitExceeded", "RequestLimitExceeded"]
    assert client.code("DescribeTextToSpeechAsyncTask", {"TaskId": "x"}) == "ResourceNotFound"


def audio_url(client, text="hello"):
    task_id = client.call("TextToSpeechAsync", {**SUBMIT, "Text": text})["TaskId"]
    return client.finished(task_id)["AudioUrl"]


def test_audio_is_a_wav_with_length_etag_and_crc64(client):
    response = plain_http.get(audio_url(client))
    assert response.headers["content-type"] == "audio/wav"
    assert int(response.headers["content-length"]) == len(response.content)
    assert int(response.headers["x-cos-hash-crc64ecma"]) == crc64.xz(response.content)
    assert response.headers["etag"].startswith('"')
    with wave.open(BytesIO(response.content)) as audio:
        assert audio.getframerate() == 16000


def test_range_is_served_if_the_audio_is_unchanged(client):
    url = audio_url(client)
    whole = plain_http.get(url)
    rest = plain_http.get(url, headers={"Range": "bytes=100-", "If-Range": whole.headers["etag"]})
    assert rest.status_code == 206
    assert rest.content == whole.content[100:]
    assert rest.headers["content-range"] == f"bytes 100-{len(whole.content) - 1}/{len(whole.content)}"
    changed = plain_http.get(url, headers={"Range": "bytes=100-", "If-Range": '"another"'})
    assert changed.status_code == 200


def test_signed_url_expires(start_emulator, monkeypatch):
    client = Client(start_emulator(link_lifetime=3600))
    url = audio_url(client)
    assert plain_http.get(url).status_code == 200
    let_time_pass(monkeypatch, 3601)
    assert plain_http.get(url).status_code == 403


def test_tampered_url_is_rejected(client):
    url = audio_url(client)
    assert plain_http.get(url.replace("expires=", "expires=9")).status_code == 403
    assert plain_http.get(url.partition("?")[0]).status_code == 403
    assert plain_http.get(url + "%E2%82%AC").status_code == 403


printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["TextToSpeechAsync", "DescribeTextToSpeechAsyncTask", "AssumeRole", "x"]),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text() | st.sampled_from(["Text", "TaskId"]),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["Text", "VoiceId", "ExtParam", "TaskId"]), inner)
        ),
        max_leaves=5,
    ),
    printable,
)
def test_no_request_crashes_the_emulator(client, action, parameters, token):
    assert client.call(action, parameters, headers={"x-tc-token": token} if token else {})["RequestId"]
