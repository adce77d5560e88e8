import math

import pytest

from airflow_provider_mps.errors import InvalidRequestError
from airflow_provider_mps.speech_request import SpeechRequest, require_limit


def request(text="hello", voice_id="v", text_lang=None, ext_param=None, max_characters=None):
    return SpeechRequest.checked(text, voice_id, text_lang, ext_param or {}, max_characters)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"text": ""}, "text is empty: nothing was submitted"),
        ({"text": " \n"}, "text is empty"),
        ({"text": None}, "text is empty"),
        ({"text": True}, "text is no text but bool"),
        ({"text": math.nan}, "text is no text but float"),
        ({"text": "a\x00b"}, r"text has the control character U\+0000 \(character 2\)"),
        ({"voice_id": "a\x02"}, r"voice_id has the control character U\+0002"),
        ({"text": "half a \ud83d pair"}, r"text cannot be written as UTF-8 \(character 8\)"),
        ({"voice_id": ""}, "voice_id is empty"),
        ({"text_lang": 3}, "text_lang is no text"),
        ({"text": "12345", "max_characters": 4}, "text has 5 characters, more than the 4 of max_characters"),
        ({"ext_param": {"synExt": {"pitch": 99}}}, "pitch must be"),
    ],
)
def test_what_should_not_be_paid_is_refused_with_a_sentence(arguments, said):
    with pytest.raises(InvalidRequestError, match=said):
        request(**arguments)


def test_a_text_as_long_as_the_limit_is_taken():
    assert request(text="1234", max_characters=4).text == "1234"


@pytest.mark.parametrize("empty", [None, ""])
def test_no_language_is_asked_for_where_none_is_given(empty):
    assert request(text_lang=empty).text_lang is None


def test_the_text_is_in_no_repr():
    assert "SECRET" not in repr(request(text="SECRET"))


def test_a_fingerprint_is_the_same_only_for_the_same():
    ours = request(ext_param={"synExt": {"pitch": 1, "sampleRate": 8000}}).fingerprint("conn", None)
    assert ours == request(ext_param={"synExt": {"sampleRate": 8000, "pitch": 1}}).fingerprint("conn", None)
    others = [
        request(text="hello!"),
        request(voice_id="w"),
        request(text_lang="en"),
        request(ext_param={"synExt": {"pitch": 1}}),
    ]
    assert len({ours, *(other.fingerprint("conn", None) for other in others)}) == 5
    assert request().fingerprint("conn", None) != request().fingerprint("other", None)
    assert request().fingerprint("conn", None) != request().fingerprint("conn", "ap-singapore")


@pytest.mark.parametrize("empty", [None, ""])
def test_there_is_no_limit_where_none_is_given(empty):
    assert require_limit(empty) is None


def test_a_limit_may_come_from_a_template():
    assert require_limit("300") == 300


@pytest.mark.parametrize("wrong", [0, -1, "many", True, float("inf")])
def test_a_limit_must_be_a_whole_number_above_0(wrong):
    with pytest.raises(InvalidRequestError, match="max_characters must be a whole number above 0"):
        require_limit(wrong)


@pytest.mark.parametrize(("number", "text"), [(42, "42"), (0, "0"), (1.5, "1.5"), (2**70, str(2**70))])
def test_a_number_where_a_text_is_meant_is_taken_as_written(number, text):
    checked = request(text=number, voice_id=number)
    assert (checked.text, checked.voice_id) == (text, text)


@pytest.mark.parametrize(
    "text", ["tab\tline\nline\r\n", "page\fpage\v", "\u00a0\u200c\u200d\xad\u0085\ufeff", "\U0001fae9"]
)
def test_a_text_may_have_what_old_text_files_have(text):
    assert request(text=f"a{text}").text == f"a{text}"
