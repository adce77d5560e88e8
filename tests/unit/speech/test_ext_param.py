import pytest

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.speech.ext_param import SpeechOptions, merge_ext_params, parse_flag


def test_build_puts_arguments_into_ext_param():
    options = SpeechOptions(
        sample_rate=22050, pitch=-3, target_duration=2.5, translate_to="en", translate_requirement="be formal"
    )
    assert options.build() == {
        "synExt": {"sampleRate": 22050, "pitch": -3, "duration": 2.5},
        "transExt": {"transInfo": {"transDst": "en"}, "transRequirement": "be formal"},
    }


def test_build_without_arguments_is_empty():
    assert SpeechOptions().build() == {}


@pytest.mark.parametrize("empty", [None, "", " \n"])
def test_build_ignores_empty_arguments(empty):
    assert SpeechOptions(empty, empty, empty, empty, empty, empty).build() == {}


def test_build_accepts_numbers_as_text():
    assert SpeechOptions(sample_rate="8000", pitch="0", target_duration="1.5").build() == {
        "synExt": {"sampleRate": 8000, "pitch": 0, "duration": 1.5}
    }


def test_build_merges_arguments_into_copy_of_ext_param():
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
def test_build_rejects_value_given_twice(ext_param, arguments, name):
    with pytest.raises(InvalidRequestError, match=f"{name} is given twice"):
        SpeechOptions(ext_param, **arguments).build()


@pytest.mark.parametrize(
    ("arguments", "message"),
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
def test_build_rejects_undocumented_values(arguments, message):
    with pytest.raises(InvalidRequestError, match=message):
        SpeechOptions(**arguments).build()


@pytest.mark.parametrize("pitch", [-12, 12])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 32000, 44100])
def test_build_accepts_documented_values(rate, pitch):
    assert SpeechOptions(sample_rate=rate, pitch=pitch).build()["synExt"] == {"sampleRate": rate, "pitch": pitch}


def test_merge_ext_params_overrides_single_values():
    default = {"synExt": {"sampleRate": 8000, "pitch": 1}}
    assert merge_ext_params(default, {"synExt": {"pitch": 2}}) == {"synExt": {"sampleRate": 8000, "pitch": 2}}
    assert default == {"synExt": {"sampleRate": 8000, "pitch": 1}}


@pytest.mark.parametrize(
    ("value", "flag"),
    [(True, True), (False, False), ("True", True), ("false ", False), ("", False), (None, False), ("None", False)],
)
def test_flag_may_be_rendered_as_text(value, flag):
    assert parse_flag("fit_to_cues", value) is flag


@pytest.mark.parametrize("value", ["yes", 1, [True], "{{ params.fit }}"])
def test_flag_that_is_neither_true_nor_false_is_rejected(value):
    with pytest.raises(InvalidRequestError, match="fit_to_cues must be true or false"):
        parse_flag("fit_to_cues", value)
