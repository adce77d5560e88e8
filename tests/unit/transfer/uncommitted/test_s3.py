from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from airflow_provider_mps.transfer.uncommitted.s3 import S3File, _etag_of_parts

BEGUN = datetime(2026, 11, 27, 8, tzinfo=UTC)
PARTS = [
    {"PartNumber": 1, "ETag": '"08b46181d7094b5ece88bb389c7499af"'},
    {"PartNumber": 2, "ETag": '"d76f89e449720d99d4b92c79040f4882"'},
]
ETAG = "fdd3f8f29045d7454477dd634c8cd8cb-2"  # which a real store computed of these


@pytest.fixture
def upload():
    file = S3File(SimpleNamespace(split_path=lambda path: (*path.split("/"), None)), "clips/clip.wav")
    file._parts, file._written, file._begun_at, file._listed = PARTS, 10, BEGUN, True
    return file


def head(etag=ETAG, length=10, after=timedelta()):
    return {"ETag": f'"{etag}"', "ContentLength": length, "LastModified": BEGUN + after}


def test_etag_of_parts_is_the_one_that_s3_computes():
    assert _etag_of_parts(PARTS) == ETAG


def test_etag_of_parts_is_none_if_a_part_has_no_md5():
    assert _etag_of_parts([*PARTS, {"PartNumber": 3, "ETag": '"not-an-md5"'}]) is None


@pytest.mark.parametrize(
    ("there", "is_ours"),
    [
        (head(after=timedelta(days=-1)), True),
        (head(etag="another", after=timedelta(seconds=-1)), True),
        (head(etag="another", after=timedelta(seconds=5)), True),
        (head(etag="another", after=timedelta(seconds=-2)), False),
        (head(length=9), False),
    ],
    ids=["own ETag", "as old as the upload", "newer", "older object", "another length"],
)
def test_object_there_is_recognised_by_its_etag_or_its_age(upload, there, is_ours):
    assert upload._was_completed(there) is is_ours


@pytest.mark.parametrize(("attribute", "value"), [("_begun_at", None), ("_listed", False)])
def test_object_with_another_etag_is_unknown_without_date_or_list_of_parts(upload, attribute, value):
    setattr(upload, attribute, value)
    assert upload._was_completed(head(etag="another")) is None
    assert upload._was_completed(head()) is True
