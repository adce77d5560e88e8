from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from airflow_provider_mps.storage.writers.s3 import S3Writer
from airflow_provider_mps.storage.writers.s3_body import compute_multipart_etag

STARTED = datetime(2026, 11, 27, 8, tzinfo=UTC)
PARTS = [
    {"PartNumber": 1, "ETag": '"08b46181d7094b5ece88bb389c7499af"'},
    {"PartNumber": 2, "ETag": '"d76f89e449720d99d4b92c79040f4882"'},
]
ETAG = "fdd3f8f29045d7454477dd634c8cd8cb-2"  # computed by a real server


@pytest.fixture
def upload():
    file = S3Writer(SimpleNamespace(split_path=lambda path: (*path.split("/"), None)), "clips/clip.wav")
    file._parts, file._written, file._started_at, file._parts_were_listed = PARTS, 10, STARTED, True
    return file


def make_head(etag=ETAG, length=10, after=timedelta()):
    return {"ETag": f'"{etag}"', "ContentLength": length, "LastModified": STARTED + after}


def test_multipart_etag_equals_that_of_s3():
    assert compute_multipart_etag(PARTS) == ETAG


def test_multipart_etag_without_md5_of_a_part_is_none():
    assert compute_multipart_etag([*PARTS, {"PartNumber": 3, "ETag": '"not-an-md5"'}]) is None


@pytest.mark.parametrize(
    ("head", "is_own"),
    [
        (make_head(after=timedelta(days=-1)), True),
        (make_head(etag="another", after=timedelta(seconds=-1)), True),
        (make_head(etag="another", after=timedelta(seconds=5)), True),
        (make_head(etag="another", after=timedelta(seconds=-2)), False),
        (make_head(length=9), False),
    ],
    ids=["own ETag", "as old as the upload", "newer", "older object", "another length"],
)
def test_completed_upload_is_recognized_by_etag_or_date(upload, head, is_own):
    assert upload._was_completed(head) is is_own


@pytest.mark.parametrize(("attribute", "value"), [("_started_at", None), ("_parts_were_listed", False)])
def test_other_etag_without_date_or_part_list_is_unknown(upload, attribute, value):
    setattr(upload, attribute, value)
    assert upload._was_completed(make_head(etag="another")) is None
    assert upload._was_completed(make_head()) is True
