import json

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mps.api.actions import (
    encode_ext_param,
    make_describe_call,
    make_submit_call,
    parse_task_id,
)
from airflow_provider_mps.error_codes import ErrorClass
from airflow_provider_mps.exceptions import InvalidRequestError, MpsApiError, MpsPermanentError


@pytest.mark.parametrize("task_id", ["", "  ", None, "None", 5])
def test_describe_without_task_id_raises(task_id):
    with pytest.raises(InvalidRequestError, match="mps_task_id") as caught:
        make_describe_call(task_id)
    assert isinstance(caught.value, AirflowFailException)


def test_task_id_with_white_space_is_stripped():
    assert parse_task_id(" task-1\n") == "task-1"


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
def test_submit_with_invalid_text_or_voice_names_argument(text, voice, named):
    with pytest.raises(InvalidRequestError, match=f"{named} .*nothing was submitted"):
        make_submit_call(text, voice)


def test_submit_omits_empty_arguments():
    assert make_submit_call("hi", "v").params == {"Text": "hi", "VoiceId": "v"}
    assert make_submit_call("hi", "v", "", {}).params == {"Text": "hi", "VoiceId": "v"}


def test_ext_param_accepts_dict_or_json():
    ext_param = {"synExt": {"pitch": 2}, "transExt": {"transInfo": {"transDst": "日本"}}}
    assert json.loads(encode_ext_param(ext_param)) == ext_param
    assert encode_ext_param(json.dumps(ext_param)) == json.dumps(ext_param)


@pytest.mark.parametrize(
    "ext_param", ["{", '{"a":NaN}', "[]", "5", '"text"', "[" * 100_000, [1], {"a": {1, 2}}, {"a": float("nan")}]
)
def test_ext_param_without_json_object_raises(ext_param):
    with pytest.raises(InvalidRequestError, match="ext_param"):
        encode_ext_param(ext_param)


def test_unknown_outcome_retries_query_only():
    assert make_describe_call("t").should_retry(ErrorClass.OUTCOME_UNKNOWN)
    assert not make_submit_call("t", "v").should_retry(ErrorClass.OUTCOME_UNKNOWN)


def test_submit_response_with_task_id_ignores_error_code():
    result = make_submit_call("t", "v").parse({"ErrorCode": 100, "TaskId": "task-1", "RequestId": "r"})
    assert (result.task_id, result.request_id) == ("task-1", "r")


def test_submit_response_with_error_code_raises_permanent_error():
    with pytest.raises(MpsPermanentError, match=r"too long.*req-1.*nothing was accepted"):
        make_submit_call("t", "v").parse({"ErrorCode": 110, "Msg": "too long", "RequestId": "req-1"})


@pytest.mark.parametrize("response", [{}, {"TaskId": ""}, {"TaskId": None, "ErrorCode": 0}, {"TaskId": 5}])
def test_submit_response_without_task_id_is_unknown_outcome(response):
    with pytest.raises(MpsApiError, match="TaskId") as caught:
        make_submit_call("t", "v").parse(response)
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
def test_describe_with_invalid_task_id_raises_without_value(given):
    with pytest.raises(InvalidRequestError, match=r"which is not a TaskId.*'TaskId'") as caught:
        make_describe_call(given)
    assert "SECRET" not in str(caught.value)


def test_submit_with_number_sends_text():
    assert make_submit_call(42, 101001).params == {"Text": "42", "VoiceId": "101001"}
