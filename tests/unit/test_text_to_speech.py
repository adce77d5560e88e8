import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mps.errors import ErrorClass, MpsApiError, MpsPermanentError, TextToSpeechTaskFailed
from airflow_provider_mps.text_to_speech import TaskStatus, TextToSpeechTask

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
    return TextToSpeechTask.from_answer("task-1", {**SUCCESS, **changes})


def test_a_success_is_parsed_as_the_api_page_shows_it():
    task = parse()
    assert task.status is TaskStatus.SUCCESS
    assert task.is_ready() is True
    assert task.to_xcom() == {
        "TaskId": "task-1",
        "Status": "success",
        "AudioUrl": SUCCESS["AudioUrl"],
        "VoiceId": "s1_voice",
        "duration": 1.00325,
        "ExtInfo": {"duration": 1.00325},
    }


def test_error_code_100_while_processing_is_no_failure():
    assert parse(Status="processing", ErrorCode=100).is_ready() is False


def test_status_decides_and_not_error_code():
    assert parse(ErrorCode=100).is_ready() is True
    with pytest.raises(TextToSpeechTaskFailed):
        parse(Status="fail", ErrorCode=0).is_ready()


@pytest.mark.parametrize(
    ("ext_info", "read"),
    [
        (r'{"duration": 1, "text": "\ud83d"}', {"duration": 1, "text": "?"}),
        (r'{"duration": 1, "text": "a\u0000b"}', {"duration": 1, "text": "a\ufffdb"}),
        ('{"duration": 1, "id": 123456789012345678901234}', {"duration": 1, "id": None}),
        ('{"duration": 1, "id": -9000000000000000000}', {"duration": 1, "id": None}),
        ('{"duration": 1, "id": 123456789012345678}', {"duration": 1, "id": 123456789012345678}),
        ('{"duration": 1, "more": ' + 50 * "[" + 50 * "]" + "}", {}),
    ],
)
def test_what_could_be_neither_stored_nor_handed_over_is_not_in_the_result(ext_info, read):
    assert parse(ExtInfo=ext_info).ext_info == read


def test_message_is_kept_without_the_query_of_a_url():
    assert parse(Status="fail", Msg="cannot put https://h/a.wav?q-signature=SECRET").message == (
        "cannot put https://h/a.wav?***"
    )


def test_an_error_code_that_no_database_holds_is_none():
    assert parse(Status="fail", ErrorCode=2**64).error_code is None


def test_a_failed_task_raises_with_everything_that_tells_why():
    with pytest.raises(TextToSpeechTaskFailed) as caught:
        parse(Status="fail", ErrorCode=110, Msg="bad voice").is_ready()
    assert caught.value.args == ("task-1", 110, "bad voice", "req-1")


@pytest.mark.parametrize("status", ["paused", "SUCCESS", "", 0, True, ["success"], {"success": 1}])
def test_an_unknown_status_is_an_error_that_quotes_it(status):
    with pytest.raises(MpsPermanentError) as caught:
        parse(Status=status)
    assert repr(status) in str(caught.value)
    assert "req-1" in str(caught.value)


@pytest.mark.parametrize("answer", [{}, {"Status": None}])
def test_an_answer_without_a_status_is_no_answer_and_may_be_asked_for_again(answer):
    with pytest.raises(MpsApiError) as caught:
        TextToSpeechTask.from_answer("task-1", answer)
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
def test_a_missing_or_malformed_duration_is_none_and_never_an_error(ext_info):
    assert parse(ExtInfo=ext_info).duration is None


def test_a_whole_number_of_seconds_is_a_duration_too():
    assert parse(ExtInfo='{"duration":2}').duration == 2.0


def test_the_link_which_may_be_signed_is_not_in_the_repr():
    assert "secret" not in repr(parse())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
answers = st.fixed_dictionaries(
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


@given(answers)
def test_no_answer_crashes_the_parser_or_reads_as_a_success_that_it_is_not(answer):
    try:
        task = TextToSpeechTask.from_answer("task-1", answer)
        ready = task.is_ready()
    except (MpsApiError, TextToSpeechTaskFailed):
        assert answer.get("Status") not in ("success", "processing")
        return
    assert ready is (answer["Status"] == "success")
    assert task.duration is None or 0 <= task.duration < float("inf")
    json.dumps(task.to_xcom(), allow_nan=False)
