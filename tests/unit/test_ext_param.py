import pytest

from airflow_provider_mps.errors import InvalidRequestError
from airflow_provider_mps.ext_param import SpeechOptions, merged


def test_plain_arguments_build_what_the_api_takes():
    options = SpeechOptions(
        sample_rate=22050, pitch=-3, target_duration=2.5, translate_to="en", translate_requirement="be formal"
    )
    assert options.build() == {
        "synExt": {"sampleRate": 22050, "pitch": -3, "duration": 2.5},
        "transExt": {"transInfo": {"transDst": "en"}, "transRequirement": "be formal"},
    }


def test_nothing_is_asked_for_where_nothing_is_given():
    assert SpeechOptions().build() == {}


@pytest.mark.parametrize("empty", [None, ""])
def test_what_a_template_leaves_empty_is_not_given(empty):
    assert SpeechOptions(empty, empty, empty, empty, empty, empty).build() == {}


def test_numbers_may_come_from_a_template_as_text():
    assert SpeechOptions(sample_rate="8000", pitch="0", target_duration="1.5").build() == {
        "synExt": {"sampleRate": 8000, "pitch": 0, "duration": 1.5}
    }


def test_arguments_and_ext_param_add_up_and_the_given_dict_stays_as_it_is():
    given = {"synExt": {"pitch": 1}}
    assert SpeechOptions(given, sample_rate=8000).build() == {"synExt": {"pitch": 1, "sampleRate": 8000}}
    assert SpeechOptions('{"transExt": {"transRequirement": "short"}}', translate_to="en").build() == {
        "transExt": {"transRequirement": "short", "transInfo": {"transDst": "en"}}
    }
    assert given == {"synExt": {"pitch": 1}}


@pytest.mark.parametrize(
    ("ext_param", "arguments", "name"),
    [
        ({"synExt": {"sampleRate": 8000}}, {"sample_rate": 8000}, "sample_rate"),
        ({"synExt": {"pitch": 0}}, {"pitch": 1}, "pitch"),
        ('{"synExt": {"duration": 1}}', {"target_duration": 2}, "target_duration"),
        ({"transExt": {"transInfo": {"transDst": "en"}}}, {"translate_to": "en"}, "translate_to"),
        ({"transExt": {"transRequirement": "a"}}, {"translate_requirement": "b"}, "translate_requirement"),
    ],
)
def test_giving_the_same_thing_twice_is_an_error(ext_param, arguments, name):
    with pytest.raises(InvalidRequestError, match=f"{name} is given twice"):
        SpeechOptions(ext_param, **arguments).build()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"sample_rate": 44000}, "sample_rate must be one of 8000"),
        ({"sample_rate": True}, "sample_rate"),
        ({"sample_rate": "fast"}, "sample_rate must be a number, not 'fast'"),
        ({"pitch": 13}, "pitch must be a whole number from -12 to 12"),
        ({"pitch": -12.5}, "pitch must be a whole number"),
        ({"target_duration": 0}, "target_duration must be a number of seconds above 0"),
        ({"target_duration": "nan"}, "target_duration"),
        ({"translate_to": 7}, "translate_to"),
        ({"ext_param": {"synExt": {"sampleRate": "16000"}}}, "sample_rate"),
        ({"ext_param": {"synExt": {"pitch": True}}}, "pitch"),
        ({"ext_param": {"transExt": {"transInfo": {"transDst": 5}}}}, "translate_to must be a text"),
        ({"ext_param": {"synExt": []}}, "ext_param.synExt must be an object"),
        ({"ext_param": {"transExt": {"transInfo": "en"}}}, "ext_param.transExt.transInfo must be an object"),
        ({"ext_param": {"transExt": {"transDst": "en"}}}, "the key 'transDst'.*transInfo, transRequirement"),
        ({"ext_param": {"transExt": {"transInfo": {"dst": "en"}}}}, "the key 'dst'.*transDst"),
        ({"ext_param": {"synext": {}}}, "the key 'synext'.*synExt, transExt"),
        ({"ext_param": {"synExt": {"samplerate": 8000}}}, "the key 'samplerate'"),
        ({"ext_param": "[]"}, "must be a JSON object"),
        ({"ext_param": 3}, "must be a dict or a JSON string"),
        ({"ext_param": {"synExt": {"pitch": object()}}}, "cannot be written as JSON"),
        ({"ext_param": {"synExt": {"duration": float("nan")}}}, "cannot be written as JSON"),
        ({"ext_param": {"synExt": {"duration": "2"}}}, "target_duration"),
        ({"ext_param": {"synExt": {"duration": -(10**400)}}}, "target_duration"),
        ({"ext_param": {"synExt": 1}, "pitch": 1}, "ext_param.synExt must be an object"),
    ],
)
def test_what_the_api_does_not_document_is_refused(arguments, said):
    with pytest.raises(InvalidRequestError, match=said):
        SpeechOptions(**arguments).build()


@pytest.mark.parametrize("pitch", [-12, 12])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 32000, 44100])
def test_every_documented_value_is_taken(rate, pitch):
    assert SpeechOptions(sample_rate=rate, pitch=pitch).build()["synExt"] == {"sampleRate": rate, "pitch": pitch}


def test_what_is_particular_goes_before_the_default_value_by_value():
    default = {"synExt": {"sampleRate": 8000, "pitch": 1}}
    assert merged(default, {"synExt": {"pitch": 2}}) == {"synExt": {"sampleRate": 8000, "pitch": 2}}
    assert default == {"synExt": {"sampleRate": 8000, "pitch": 1}}
