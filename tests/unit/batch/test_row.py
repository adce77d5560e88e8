import json
from dataclasses import replace

import pytest

from airflow_provider_mps.batch.row import LineStatus, Row, make_duplicate_row

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

EDITED_BY_HAND = [
    *(("id", 7), ("id", ["a"]), ("TaskId", {}), ("crc64", 17296469013905370602), ("path", True), ("error", [])),
    *(("size", 10**30), ("size", "1"), ("size", -1), ("size", True), ("line", [])),
    *(("duration", float("inf")), ("duration", float("nan")), ("duration", "1.5")),
]


def test_row_survives_a_round_trip_through_json():
    assert Row.from_json(json.loads(json.dumps(FULL.to_json()))) == FULL


def test_api_values_have_the_names_of_the_api():
    assert {"TaskId": "task-1", "VoiceId": "v"}.items() <= FULL.to_json().items()


def test_fields_of_later_versions_are_ignored():
    assert Row.from_json({**FULL.to_json(), "mood": "cheerful"}) == FULL


@pytest.mark.parametrize(
    "data",
    [
        *({}, {"id": "a"}, {"id": "a", "status": "happy"}, [], "text", None),
        *({**FULL.to_json(), name: value} for name, value in EDITED_BY_HAND),
    ],
)
def test_invalid_row_raises_value_error(data):
    with pytest.raises(ValueError, match=r"is not a row|not a valid"):
        Row.from_json(data)


@pytest.mark.parametrize("status", ["processing", "store_failed"])
def test_accepted_line_without_task_id_raises_value_error(status):
    with pytest.raises(ValueError, match="is not a row"):
        Row.from_json({"id": "a", "status": status})


def test_new_status_clears_only_the_error():
    failed = FULL.with_status(LineStatus.FAILED, error="why")
    assert failed.error == "why"
    assert failed.with_status(LineStatus.STORED) == FULL


def test_invalid_line_has_a_key_other_than_its_id():
    assert FULL.key != Row("clip", 3, LineStatus.INVALID).key
    assert Row(None, 3, LineStatus.INVALID).key != Row(None, 4, LineStatus.INVALID).key


@pytest.mark.parametrize(("name", "status"), [("unstored", LineStatus.STORE_FAILED), ("refused", LineStatus.REJECTED)])
def test_status_of_version_1_0_is_read(name, status):
    assert Row.from_json({**FULL.to_json(), "status": name}).status is status


def test_duplicate_row_is_made_for_an_id_of_this_manifest_only():
    duplicate = make_duplicate_row("clip", 7, FULL)
    assert duplicate == Row("clip", 7, LineStatus.INVALID, error="the id 'clip' is already used by line 3.")
    assert make_duplicate_row("clip", 7, replace(FULL, line=None)) is None
    assert make_duplicate_row("clip", 7, None) is None
