import json

import pytest

from airflow_provider_mps.batch.row import LineStatus, Row

FULL = Row(
    "clip",
    3,
    LineStatus.STORED,
    task_id="task-1",
    path="s3://b/clip.wav",
    voice_id="v",
    duration=1.5,
    size=48044,
    crc64="17296469013905370602",
    characters=9,
    request="print",
    sent_at="2026-11-25T10:00:00+00:00",
)

MENDED_BY_HAND = [
    *(("id", 7), ("id", ["a"]), ("TaskId", {}), ("crc64", 17296469013905370602), ("path", True), ("error", [])),
    *(("size", 10**30), ("size", "1"), ("size", -1), ("size", True), ("line", [])),
    *(("duration", float("inf")), ("duration", float("nan")), ("duration", "1.5")),
]


def test_what_is_written_is_read():
    assert Row.from_json(json.loads(json.dumps(FULL.to_json()))) == FULL


def test_the_apis_values_have_the_apis_names():
    assert {"TaskId": "task-1", "VoiceId": "v"}.items() <= FULL.to_json().items()


def test_what_a_later_version_has_added_is_left_out():
    assert Row.from_json({**FULL.to_json(), "mood": "cheerful"}) == FULL


@pytest.mark.parametrize(
    "written",
    [
        *({}, {"id": "a"}, {"id": "a", "status": "happy"}, [], "text", None),
        *({**FULL.to_json(), name: value} for name, value in MENDED_BY_HAND),
    ],
)
def test_what_is_no_row_is_an_error(written):
    with pytest.raises(ValueError, match=r"no row|not a valid"):
        Row.from_json(written)


@pytest.mark.parametrize("status", ["processing", "unstored"])
def test_a_line_that_mps_has_accepted_has_a_task_id(status):
    with pytest.raises(ValueError, match="no row"):
        Row.from_json({"id": "a", "status": status})


def test_another_status_forgets_the_error_and_nothing_else():
    failed = FULL.now(LineStatus.FAILED, error="why")
    assert failed.error == "why"
    assert failed.now(LineStatus.STORED) == FULL


def test_a_line_that_is_invalid_does_not_take_the_place_of_what_is_known_of_its_id():
    assert FULL.key != Row("clip", 3, LineStatus.INVALID).key
    assert Row(None, 3, LineStatus.INVALID).key != Row(None, 4, LineStatus.INVALID).key
