from types import SimpleNamespace

import pytest

from airflow_provider_mps.player.recorded import RecordedAudio, find_recorded

PUSHED = {"return_value": "file:///clips/clip.wav", "VoiceId": "voice-1", "duration": 1.5}


def found(pushed):
    rows = [SimpleNamespace(key=key, value=value) for key, value in pushed.items()]
    return find_recorded("d", "r", "t", -1, SimpleNamespace(execute=lambda _: rows))


def test_what_the_operator_pushes_is_what_it_has_recorded():
    assert found(PUSHED) == RecordedAudio("file:///clips/clip.wav", "voice-1", 1.5)


def test_what_mps_did_not_tell_is_none():
    assert found({**PUSHED, "VoiceId": None, "duration": None}) == RecordedAudio("file:///clips/clip.wav", None, None)


@pytest.mark.parametrize("missing", PUSHED)
def test_a_task_that_lacks_one_of_them_is_none_that_stores_audio(missing):
    assert found({key: value for key, value in PUSHED.items() if key != missing}) is None


@pytest.mark.parametrize("returned", [None, 1, ["file:///clip.wav"], {"path": "x"}])
def test_what_was_returned_must_be_a_path(returned):
    assert found({**PUSHED, "return_value": returned}) is None


@pytest.mark.parametrize("duration", ["long", float("nan"), [1], True, -1, 10**400])
def test_a_value_of_another_kind_is_taken_for_none(duration):
    assert found({**PUSHED, "VoiceId": {"a": 1}, "duration": duration}) == RecordedAudio(
        PUSHED["return_value"], None, None
    )


@pytest.mark.parametrize(
    "value",
    [
        '{"__classname__": "airflow.no.such.Class", "__version__": 1, "__data__": "x"}',
        '{"__classname__": "os.system", "__version__": 1, "__data__": "id"}',
        "[" * 100_000,
    ],
)
def test_what_names_a_class_is_not_made_one(value):
    recorded = found({**PUSHED, "return_value": value})
    assert recorded is None or recorded.path == value


def test_what_is_kept_as_json_is_read_as_such():
    assert found({**PUSHED, "return_value": '"file:///clip.wav"', "duration": "2.5"}).duration == 2.5
