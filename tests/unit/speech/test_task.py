import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mps.error_codes import ErrorClass
from airflow_provider_mps.exceptions import MpsApiError, MpsPermanentError, TextToSpeechTaskFailed
from airflow_provider_mps.speech.task import TaskStatus, TextToSpeechTask

SUCCESS = {
    "AudioUrl": "https://bucket.cos.example/clip.wav?sign=secret",
    "ErrorCode": 0,
    "ExtInfo": '{"duration":1.00325}',
    "Msg": "success",
    "Status": "success",
    "VoiceId": "s1_voice",
    "RequestId": "req-1",
}


def parse(**changes):
    return TextToSpeechTask.from_response("task-1", {**SUCCESS, **changes})


def test_from_response_parses_documented_success():
    task = parse()
    assert task.status is TaskStatus.SUCCESS
    assert task.is_done is True
    assert task.to_xcom() == {
        "TaskId": "task-1",
        "Status": "success",
        "AudioUrl": SUCCESS["AudioUrl"],
        "VoiceId": "s1_voice",
        "duration": 1.00325,
        "ExtInfo": {"duration": 1.00325},
    }


def test_processing_task_with_error_code_100_is_not_done():
    assert parse(Status="processing", ErrorCode=100).is_done is False


def test_status_takes_precedence_over_error_code():
    assert parse(ErrorCode=100).is_done is True
    with pytest.raises(TextToSpeechTaskFailed):
        parse(Status="fail", ErrorCode=0).raise_for_status()


@pytest.mark.parametrize(
    ("ext_info", "parsed"),
    [
        (r'{"duration": 1, "text": "\ud83d"}', {"duration": 1, "text": "?"}),
        (r'{"duration": 1, "text": "a\u0000b"}', {"duration": 1, "text": "a\ufffdb"}),
        ('{"duration": 1, "id": 123456789012345678901234}', {"duration": 1, "id": None}),
        ('{"duration": 1, "id": -9000000000000000000}', {"duration": 1, "id": None}),
        ('{"duration": 1, "id": 123456789012345678}', {"duration": 1, "id": 123456789012345678}),
        ('{"duration": 1, "more": ' + 50 * "[" + 50 * "]" + "}", {}),
    ],
)
def test_ext_info_drops_values_that_cannot_be_stored(ext_info, parsed):
    assert parse(ExtInfo=ext_info).ext_info == parsed


def test_message_omits_query_of_url():
    assert parse(Status="fail", Msg="cannot put https://h/a.wav?q-signature=SECRET").message == (
        "cannot put https://h/a.wav?***"
    )


def test_error_code_over_64_bits_is_none():
    assert parse(Status="fail", ErrorCode=2**64).error_code is None


def test_raise_for_status_has_id_code_message_and_request_id():
    with pytest.raises(TextToSpeechTaskFailed) as caught:
        parse(Status="fail", ErrorCode=110, Msg="bad voice").raise_for_status()
    assert caught.value.args == ("task-1", 110, "bad voice", "req-1")


@pytest.mark.parametrize("status", ["paused", "SUCCESS", "", 0, True, ["success"], {"success": 1}])
def test_unknown_status_raises_and_is_quoted(status):
    with pytest.raises(MpsPermanentError) as caught:
        parse(Status=status)
    assert repr(status) in str(caught.value)
    assert "req-1" in str(caught.value)


@pytest.mark.parametrize("response", [{}, {"Status": None}])
def test_response_without_status_raises_retryable_error(response):
    with pytest.raises(MpsApiError) as caught:
        TextToSpeechTask.from_response("task-1", response)
    assert caught.value.error_class is ErrorClass.OUTCOME_UNKNOWN


@pytest.mark.parametrize(
    "ext_info",
    [
        None,
        "",
        "not json",
        "[]",
        "1.5",
        "{}",
        '{"duration":null}',
        '{"duration":"1.5"}',
        '{"duration":true}',
        '{"duration":-1}',
        '{"duration":NaN}',
        '{"duration":1e999}',
        '{"duration":' + "9" * 400 + "}",
        "[" * 100_000,
        {"duration": 1},
    ],
)
def test_duration_missing_or_malformed_is_none(ext_info):
    assert parse(ExtInfo=ext_info).duration is None


def test_duration_accepts_whole_number():
    assert parse(ExtInfo='{"duration":2}').duration == 2.0


def test_task_repr_hides_audio_url():
    assert "secret" not in repr(parse())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
responses = st.fixed_dictionaries(
    {},
    optional={
        "Status": st.sampled_from(["success", "fail", "processing", "Success", " success", "done"]) | json_values,
        "AudioUrl": st.text() | json_values,
        "VoiceId": st.text() | json_values,
        "ErrorCode": st.sampled_from([0, 100]) | json_values,
        "Msg": st.text() | json_values,
        "ExtInfo": st.text()
        | json_values
        | json_values.map(json.dumps)
        | json_values.map(lambda d: json.dumps({"duration": d})),
        "RequestId": st.text() | json_values,
        "TaskId": json_values,
    },
)


@given(responses)
def test_from_response_any_json_is_parsed_or_rejected(response):
    try:
        task = TextToSpeechTask.from_response("task-1", response)
        task.raise_for_status()
    except (MpsApiError, TextToSpeechTaskFailed):
        assert response.get("Status") not in ("success", "processing")
        return
    assert task.is_done is (response["Status"] == "success")
    assert task.duration is None or 0 <= task.duration < float("inf")
    json.dumps(task.to_xcom(), allow_nan=False)
