import math
from dataclasses import replace

import pytest

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.speech.request import SpeechRequest, parse_max_characters


def request(text="hello", voice_id="v", text_lang=None, ext_param=None, max_characters=None):
    return SpeechRequest.from_arguments(text, voice_id, text_lang, ext_param or {}, max_characters)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": ""}, "text is empty: nothing was submitted"),
        ({"text": " \n"}, "text is empty"),
        ({"text": None}, "text is empty"),
        ({"text": True}, "text must be a text, not bool"),
        ({"text": math.nan}, "text must be a text, not float"),
        ({"text": "a\x00b"}, r"text has the control character U\+0000 \(character 2\)"),
        ({"voice_id": "a\x02"}, r"voice_id has the control character U\+0002"),
        ({"text": "half a \ud83d pair"}, r"text cannot be encoded as UTF-8 \(character 8\)"),
        ({"voice_id": ""}, "voice_id is empty"),
        ({"text_lang": 3}, "text_lang must be a text"),
        ({"text": "12345", "max_characters": 4}, r"text has 5 characters, more than max_characters \(4\)"),
        ({"ext_param": {"synExt": {"pitch": 99}}}, "pitch must be"),
    ],
)
def test_request_with_invalid_argument_raises(arguments, message):
    with pytest.raises(InvalidRequestError, match=message):
        request(**arguments)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_request_rejects_text_file_of_other_encoding(encoding):
    text = "Call me Ishmael.".encode(encoding).decode()
    with pytest.raises(
        InvalidRequestError, match=r"^text_path file:///a.txt has .* U\+0000 \(character \d\): nothing was"
    ):
        SpeechRequest.from_arguments(text, "v", None, {}, text_source="text_path file:///a.txt")
    with pytest.raises(InvalidRequestError, match=r"nothing was submitted. It may be UTF-16"):
        request(text=text)


@pytest.mark.parametrize("text", ["text" + chr(0) * 512, "PK\x03\x04\x14\x00", "bell\x07", "\x1b[1mbold"])
def test_request_rejects_control_characters(text):
    with pytest.raises(InvalidRequestError, match="has the control character"):
        request(text=text)


def test_request_accepts_text_of_max_characters():
    assert request(text="1234", max_characters=4).text == "1234"


@pytest.mark.parametrize("empty", [None, ""])
def test_request_with_empty_language_has_none(empty):
    assert request(text_lang=empty).text_lang is None


def test_request_repr_hides_text():
    assert "SECRET" not in repr(request(text="SECRET"))


def test_fingerprint_is_equal_only_for_equal_requests():
    expected = request(ext_param={"synExt": {"pitch": 1, "sampleRate": 8000}}).fingerprint("conn", None)
    assert expected == request(ext_param={"synExt": {"sampleRate": 8000, "pitch": 1}}).fingerprint("conn", None)
    others = [
        request(text="hello!"),
        request(voice_id="w"),
        request(text_lang="en"),
        request(ext_param={"synExt": {"pitch": 1}}),
    ]
    assert len({expected, *(other.fingerprint("conn", None) for other in others)}) == 5
    assert request().fingerprint("conn", None) != request().fingerprint("other", None)
    assert request().fingerprint("conn", None) != request().fingerprint("conn", "ap-singapore")


@pytest.mark.parametrize("empty", [None, ""])
def test_parse_max_characters_empty_is_no_limit(empty):
    assert parse_max_characters(empty) is None


def test_parse_max_characters_accepts_text():
    assert parse_max_characters("300") == 300


@pytest.mark.parametrize("wrong", [0, -1, "many", True, float("inf")])
def test_parse_max_characters_rejects_invalid_limit(wrong):
    with pytest.raises(InvalidRequestError, match="max_characters must be a whole number above 0"):
        parse_max_characters(wrong)


@pytest.mark.parametrize(("number", "text"), [(42, "42"), (0, "0"), (1.5, "1.5"), (2**70, str(2**70))])
def test_request_accepts_numbers_as_text(number, text):
    checked = request(text=number, voice_id=number)
    assert (checked.text, checked.voice_id) == (text, text)


@pytest.mark.parametrize(
    "text", ["tab\tline\nline\r\n", "page\fpage\v", "\u00a0\u200c\u200d\xad\u0085\ufeff", "\U0001fae9"]
)
def test_request_accepts_whitespace_and_format_characters(text):
    assert request(text=f"a{text}").text == f"a{text}"


def test_request_with_voice_name_has_no_id_until_it_is_looked_up():
    made = SpeechRequest.from_arguments("hello", "", None, {}, voice_name=" Anna ")
    assert (made.voice_id, made.voice_name) == ("", "Anna")
    with pytest.raises(InvalidRequestError, match="voice_name has the control character"):
        SpeechRequest.from_arguments("hello", "", None, {}, voice_name="a\x02")


def test_fingerprint_depends_on_the_id_and_not_on_the_name():
    """A renamed voice is the same voice, and a name can move to another voice."""
    named = replace(SpeechRequest.from_arguments("hello", "", None, {}, voice_name="Anna"), voice_id="v")
    assert named.fingerprint() == request().fingerprint()
    assert replace(named, voice_id="w").fingerprint() != request().fingerprint()
