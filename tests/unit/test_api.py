import json

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mps.api import describe_call, encode_ext_param, require_task_id, submit_call
from airflow_provider_mps.errors import ErrorClass, InvalidRequestError, MpsApiError, MpsPermanentError


@pytest.mark.parametrize("task_id", ["", "  ", None, "None", 5])
def test_a_missing_task_id_is_refused_before_any_call(task_id):
    with pytest.raises(InvalidRequestError, match="mps_task_id") as caught:
        describe_call(task_id)
    assert isinstance(caught.value, AirflowFailException)


def test_white_space_around_a_task_id_is_no_part_of_it():
    assert require_task_id(" task-1\n") == "task-1"


@pytest.mark.parametrize(
    ("text", "voice", "named"),
    [
        ("", "v", "text"),
        (" \n", "v", "text"),
        (None, "v", "text"),
        ("t", "", "voice_id"),
        ("t", None, "voice_id"),
        (True, "v", "text"),
        ("a\x00", "v", "text"),
    ],
)
def test_an_empty_text_or_voice_is_refused_by_name_before_it_costs_money(text, voice, named):
    with pytest.raises(InvalidRequestError, match=f"{named} .*nothing was submitted"):
        submit_call(text, voice)


def test_only_what_was_given_is_sent():
    assert submit_call("hi", "v").params == {"Text": "hi", "VoiceId": "v"}
    assert submit_call("hi", "v", "", {}).params == {"Text": "hi", "VoiceId": "v"}


def test_ext_param_may_be_a_dict_or_its_json():
    asked = {"synExt": {"pitch": 2}, "transExt": {"transInfo": {"transDst": "日本"}}}
    assert json.loads(encode_ext_param(asked)) == asked
    assert encode_ext_param(json.dumps(asked)) == json.dumps(asked)


@pytest.mark.parametrize(
    "ext_param", ["{", '{"a":NaN}', "[]", "5", '"text"', "[" * 100_000, [1], {"a": {1, 2}}, {"a": float("nan")}]
)
def test_an_ext_param_that_is_no_json_object_is_refused(ext_param):
    with pytest.raises(InvalidRequestError, match="ext_param"):
        encode_ext_param(ext_param)


def test_a_query_may_be_repeated_where_a_submit_may_not():
    assert describe_call("t").may_repeat(ErrorClass.OUTCOME_UNKNOWN)
    assert not submit_call("t", "v").may_repeat(ErrorClass.OUTCOME_UNKNOWN)


def test_a_task_id_in_the_answer_means_accepted_whatever_error_code_says():
    accepted = submit_call("t", "v").read({"ErrorCode": 100, "TaskId": "task-1", "RequestId": "r"})
    assert (accepted.task_id, accepted.request_id) == ("task-1", "r")


def test_an_error_code_without_a_task_is_a_refusal_that_cost_nothing():
    with pytest.raises(MpsPermanentError, match=r"too long.*req-1.*nothing was accepted"):
        submit_call("t", "v").read({"ErrorCode": 110, "Msg": "too long", "RequestId": "req-1"})


@pytest.mark.parametrize("answer", [{}, {"TaskId": ""}, {"TaskId": None, "ErrorCode": 0}, {"TaskId": 5}])
def test_an_answer_without_a_task_id_is_an_unknown_outcome(answer):
    with pytest.raises(MpsApiError, match="TaskId") as caught:
        submit_call("t", "v").read(answer)
    assert caught.value.error_class is ErrorClass.OUTCOME_UNKNOWN


SIGNED = "https://clips.cos.example/audio.wav?q-signature=SECRET"


@pytest.mark.parametrize(
    "given",
    [
        {"TaskId": "1-DubbingAsync-2", "AudioUrl": SIGNED},
        str({"TaskId": "1-DubbingAsync-2", "AudioUrl": SIGNED}),
        SIGNED,
        SIGNED.partition("://")[2],
        "q-signature=SECRET&x=1",
        [SIGNED],
        "task SECRET",
        "SECRET\x00",
        "SECRET" * 100,
    ],
)
def test_what_is_no_task_id_is_refused_and_not_quoted(given):
    with pytest.raises(InvalidRequestError, match=r"which is no TaskId.*'TaskId'") as caught:
        describe_call(given)
    assert "SECRET" not in str(caught.value)


def test_a_number_where_a_text_is_meant_is_sent_as_written():
    assert submit_call(42, 101001).params == {"Text": "42", "VoiceId": "101001"}
