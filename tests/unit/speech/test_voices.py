import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.speech.audio_sample import AudioSample
from airflow_provider_mps.speech.voices import (
    MAX_CANDIDATES,
    MAX_TRIAL_CHARACTERS,
    CloneRequest,
    IfExists,
    Voice,
    VoiceDesignRequest,
    choose_existing,
    find_exact_name,
    find_id,
    format_voices,
    make_unknown_name_error,
    make_voice_fields,
    parse_voice_id,
    parse_voice_name,
    validate_voice_choice,
)

SAMPLE = AudioSample(data=b"RIFF")
AMY, AMY_2, BEN = Voice("v-1", "Amy"), Voice("v-2", "Amy"), Voice("v-3", "Ben")


def test_voice_has_all_documented_fields():
    voice = Voice.from_response(
        {
            "VoiceId": " v-1 ",
            "Name": "Amy",
            "Description": "Calm",
            "Category": "System",
            "Gender": "Female",
            "Age": "youth",
            "Languages": ["en", "de"],
            "Labels": ["calm"],
            "Scenes": ["news"],
            "AudioUrl": "https://a/b.wav",
            "Engine": "x",
        }
    )
    lists = (("en", "de"), ("calm",), ("news",))
    assert voice == Voice("v-1", "Amy", "Calm", "system", "female", "youth", *lists, "https://a/b.wav")
    assert voice.is_system


def test_misspelt_gender_is_corrected():
    assert Voice.from_response({"VoiceId": "v", "Gender": "famale"}).gender == "female"


def test_missing_fields_are_empty():
    assert Voice.from_response({"VoiceId": "v"}) == Voice("v")
    assert not Voice("v").is_system


def test_list_as_text_and_null_items_are_parsed():
    voice = Voice.from_response({"VoiceId": "v", "Languages": "en, de", "Labels": ["a", None, 5, " "], "Scenes": None})
    assert (voice.languages, voice.labels, voice.scenes) == (("en", "de"), ("a",), ())


@pytest.mark.parametrize("item", [None, [], "v", {}, {"VoiceId": None}, {"VoiceId": " "}, {"VoiceId": 5}])
def test_item_without_voice_id_is_none(item):
    assert Voice.from_response(item) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = ("VoiceId", "Name", "Description", "Category", "Gender", "Age", "Languages", "AudioUrl", "Labels", "Scenes")


@given(st.dictionaries(st.sampled_from(NAMES), json_values))
def test_any_response_is_parsed_into_texts(item):
    voice = Voice.from_response(item)
    if voice is not None:
        hash(voice)
        fields = dataclasses.asdict(voice)
        assert all(isinstance(value, str | tuple) for name, value in fields.items() if name != "audio_url")


def test_repr_hides_signed_urls_and_texts():
    clone = CloneRequest(AudioSample(url="https://a/?sign=SECRET"), {"Name": "Me"}, None, "SECRET")
    design = VoiceDesignRequest("deep", {"Name": "Me"}, "SECRET")
    for value in (Voice("v", audio_url="https://a/?sign=SECRET"), clone, design):
        assert "SECRET" not in repr(value)


def test_voice_fields_are_parsed_for_the_api():
    fields = make_voice_fields(
        name=" Me ", description=None, gender="Female", age="senior", languages="en, de", labels=["a", ""], scenes=[]
    )
    expected = {"Name": "Me", "Gender": "female", "Age": "senior", "Languages": ["en", "de"], "Labels": ["a"]}
    assert fields == expected


def test_numbers_become_texts_and_sets_are_ordered():
    fields = make_voice_fields(name=42, description=1.5, labels={"b", "a"}, scenes=(1, 2))
    assert fields == {"Name": "42", "Description": "1.5", "Labels": ["a", "b"], "Scenes": ["1", "2"]}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gender": "famale"}, "gender must be one of male, female, unknown, not 'famale'"),
        ({"age": 5}, "age must be one of child, "),
        ({"labels": {"a": 1}}, "labels must be a list of texts"),
        ({"labels": [["a"]]}, "labels must be a text, not list"),
        ({"labels": True}, "labels must be a list of texts, not True"),
        ({"description": ["a"]}, "description must be a text, not list"),
        ({"name": "a\0b"}, "name has the control character"),
        ({"color": "red"}, "A voice has no field 'color'. Its fields are name, description"),
    ],
)
def test_invalid_voice_field_raises(fields, message):
    with pytest.raises(InvalidRequestError, match=message):
        make_voice_fields(**fields)


def test_voice_id_and_name_are_stripped():
    assert (parse_voice_id(" v-1 "), parse_voice_id(42), parse_voice_name(" Amy ")) == ("v-1", "42", "Amy")


@pytest.mark.parametrize("voice_id", [None, "", " ", "None", ["v"], True])
def test_invalid_voice_id_raises(voice_id):
    with pytest.raises(InvalidRequestError, match="voice_id"):
        parse_voice_id(voice_id)


@pytest.mark.parametrize("name", [None, "", " ", ["Amy"], "a\x01"])
def test_invalid_voice_name_raises(name):
    with pytest.raises(InvalidRequestError, match="the name of the voice"):
        parse_voice_name(name)


EMPTY = [(None, None), ("", None), (None, "")]


@pytest.mark.parametrize(
    ("voice_id", "voice_name", "problem"),
    [
        ("v", "Amy", "voice_id and voice_name are both given"),
        *((voice_id, name, "voice_id is empty and voice_name is not given") for voice_id, name in EMPTY),
    ],
)
def test_voice_choice_needs_exactly_one(voice_id, voice_name, problem):
    with pytest.raises(InvalidRequestError, match=f"{problem}: nothing was submitted"):
        validate_voice_choice(voice_id, voice_name)


@pytest.mark.parametrize(("voice_id", "voice_name"), [("v", None), ("v", ""), (None, "Amy"), ("", "Amy")])
def test_voice_choice_with_one_passes(voice_id, voice_name):
    validate_voice_choice(voice_id, voice_name)


def test_find_id_compares_exactly():
    assert find_id(" v-2 ", [AMY, AMY_2]) is AMY_2
    assert find_id("v", [AMY, AMY_2]) is None


def test_find_exact_name_returns_the_only_match():
    assert find_exact_name("Ben", [AMY, AMY_2, BEN, Voice("v-4", "ben"), Voice("v-5", "Benny")]) is BEN
    assert find_exact_name("ben", [BEN]) is None


def test_find_exact_name_with_several_lists_their_ids():
    with pytest.raises(InvalidRequestError, match=r"2 voices are named 'Amy': 'Amy' \('v-1'\), 'Amy' \('v-2'\)\. Use"):
        find_exact_name("Amy", [AMY, AMY_2, BEN])


@pytest.mark.parametrize("if_exists", IfExists)
def test_no_existing_voice_means_a_new_one(if_exists):
    assert choose_existing("Amy", [], if_exists) is None


def test_choose_existing_does_as_named():
    assert choose_existing("Amy", [AMY], IfExists.REUSE) is AMY
    assert choose_existing("Amy", [AMY, AMY_2], IfExists.CREATE) is None
    with pytest.raises(InvalidRequestError, match="2 voices are named 'Amy'"):
        choose_existing("Amy", [AMY, AMY_2], IfExists.REUSE)
    with pytest.raises(InvalidRequestError, match=r"has 'Amy' \('v-1'\) already: no voice was created"):
        choose_existing("Amy", [AMY], IfExists.FAIL)


def test_unknown_name_error_lists_similar_voices_with_ids():
    error = str(make_unknown_name_error("amie", [AMY, AMY_2, BEN]))
    assert "None of the account's 3 voices is named 'amie'" in error
    assert "Similar: 'Amy' ('v-1'), 'Amy' ('v-2')." in error
    assert "'Ben'" not in error


def test_unknown_name_error_without_similar_voices_says_so():
    assert "No voice has a similar name" in str(make_unknown_name_error("Zacharias", [AMY, BEN]))


def test_described_voices_are_bounded():
    text = format_voices([Voice(f"v-{number}", "x" * 1000) for number in range(MAX_CANDIDATES + 3)])
    assert text.endswith(" and 3 more")
    assert len(text) < 200 * MAX_CANDIDATES


def test_requests_hold_validated_arguments():
    clone = CloneRequest.from_arguments(SAMPLE, " Me ", " en ", " Hello ", gender="Male", labels=None)
    assert clone == CloneRequest(SAMPLE, {"Name": "Me", "Gender": "male"}, "en", "Hello")
    design = VoiceDesignRequest.from_arguments("A deep voice", "Me", "", age="senior")
    assert design == VoiceDesignRequest("A deep voice", {"Name": "Me", "Age": "senior"}, None)


def test_trial_text_of_limit_passes_and_longer_raises():
    longest = "x" * MAX_TRIAL_CHARACTERS
    assert CloneRequest.from_arguments(SAMPLE, "Me", None, longest).trial_text == longest
    for make in (
        lambda text: CloneRequest.from_arguments(SAMPLE, "Me", None, text),
        lambda text: VoiceDesignRequest.from_arguments("deep", "Me", text),
    ):
        with pytest.raises(InvalidRequestError, match="trial_text has 501 characters, more than 500: no voice was"):
            make(longest + "x")


@pytest.mark.parametrize("prompt", [None, "", "  ", 5.5j, ["deep"], "a\0"])
def test_invalid_prompt_raises(prompt):
    with pytest.raises(InvalidRequestError, match="prompt"):
        VoiceDesignRequest.from_arguments(prompt, "Me", None)


@pytest.mark.parametrize(
    "other",
    [
        CloneRequest(AudioSample(data=b"RIFX"), {"Name": "Me"}, "en", "Hello").fingerprint("conn", None),
        CloneRequest(SAMPLE, {"Name": "You"}, "en", "Hello").fingerprint("conn", None),
        CloneRequest(SAMPLE, {"Name": "Me"}, "de", "Hello").fingerprint("conn", None),
        CloneRequest(SAMPLE, {"Name": "Me"}, "en", None).fingerprint("conn", None),
        CloneRequest(SAMPLE, {"Name": "Me"}, "en", "Hello").fingerprint("other", None),
        CloneRequest(SAMPLE, {"Name": "Me"}, "en", "Hello").fingerprint("conn", "ap-singapore"),
        VoiceDesignRequest("deep", {"Name": "Me"}, "Hello").fingerprint("conn", None),
    ],
)
def test_fingerprint_differs_for_each_different_request(other):
    request = CloneRequest(SAMPLE, {"Name": "Me"}, "en", "Hello")
    assert request.fingerprint("conn", None) == request.fingerprint("conn", None) != other


def test_fingerprint_ignores_the_order_of_properties():
    first = VoiceDesignRequest("deep", {"Name": "Me", "Age": "senior"})
    assert first.fingerprint("c") == VoiceDesignRequest("deep", {"Age": "senior", "Name": "Me"}).fingerprint("c")
