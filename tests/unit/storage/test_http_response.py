import pytest

from airflow_provider_mps.storage.http_response import (
    CRC_HEADER,
    AudioMetadata,
    ResponseAction,
    choose_content_type,
    classify_response,
)

WHOLE = AudioMetadata(length=100, crc64=7, etag='"a"')


def test_metadata_is_parsed_from_headers():
    assert AudioMetadata.from_headers({"Content-Length": "100", CRC_HEADER: "7", "ETag": '"a"'}) == WHOLE
    assert AudioMetadata.from_headers({}) == AudioMetadata(None, None, "")


@pytest.mark.parametrize("value", ["", "abc", "-1", "1.5", "١", "1 2", "0x10"])
def test_metadata_with_invalid_numbers_is_empty(value):
    assert AudioMetadata.from_headers({"Content-Length": value, CRC_HEADER: value}) == AudioMetadata()


@pytest.mark.parametrize(
    ("metadata", "can_resume"),
    [
        (WHOLE, True),
        (AudioMetadata(length=100, etag='W/"a"'), False),
        (AudioMetadata(length=100), False),
        (AudioMetadata(etag='"a"'), False),
    ],
)
def test_can_resume_needs_length_and_strong_etag(metadata, can_resume):
    assert metadata.can_resume is can_resume


def test_range_headers_have_range_and_if_range():
    assert WHOLE.make_range_headers(40) == {"Range": "bytes=40-", "If-Range": '"a"'}
    assert WHOLE.make_range_headers(0) == {}


@pytest.mark.parametrize(
    ("received", "crc64", "is_intact"),
    [(100, 7, True), (99, 7, False), (101, 7, False), (0, 7, False), (100, 8, False)],
)
def test_find_defect_compares_length_and_crc64(received, crc64, is_intact):
    assert (WHOLE.find_defect(received, crc64) is None) is is_intact


def test_verification_names_the_available_checks():
    assert AudioMetadata().find_defect(5, 5) is None
    assert "neither" in AudioMetadata().verification
    assert not AudioMetadata().is_verifiable
    assert WHOLE.verification == "length and CRC-64"
    assert AudioMetadata(length=1).verification == "length"


@pytest.mark.parametrize(
    ("status", "action"),
    [
        (200, ResponseAction.READ_WHOLE),
        (403, ResponseAction.REFRESH_URL),
        (404, ResponseAction.REFRESH_URL),
        (416, ResponseAction.RESTART),
        (206, ResponseAction.RESTART),
        (408, ResponseAction.RETRY),
        (429, ResponseAction.RETRY),
        (500, ResponseAction.RETRY),
        (503, ResponseAction.RETRY),
        (400, ResponseAction.FAIL),
        (204, ResponseAction.FAIL),
        (304, ResponseAction.FAIL),
    ],
)
def test_classify_response_by_status(status, action):
    assert classify_response(status, {}, 0, AudioMetadata()) is action


@pytest.mark.parametrize(
    ("content_range", "action"),
    [
        ("bytes 40-99/100", ResponseAction.READ_REST),
        ("bytes 41-99/100", ResponseAction.RESTART),
        ("bytes 40-99/101", ResponseAction.RESTART),
        ("bytes 40-98/100", ResponseAction.RESTART),
        ("bytes 40-99/*", ResponseAction.RESTART),
        ("bytes */100", ResponseAction.RESTART),
        ("", ResponseAction.RESTART),
    ],
)
def test_classify_response_reads_only_exact_rest(content_range, action):
    assert classify_response(206, {"Content-Range": content_range}, 40, WHOLE) is action


def test_classify_response_unrequested_range_restarts():
    assert classify_response(206, {"Content-Range": "bytes 0-99/100"}, 0, WHOLE) is ResponseAction.RESTART


def test_content_type_from_server_takes_precedence():
    assert choose_content_type("audio/x-odd", "a.wav") == "audio/x-odd"


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("a.wav", "audio/wav"), ("A.WAV", "audio/wav"), ("a.mp3", "audio/mpeg"), ("a.b.flac", "audio/flac")],
)
def test_content_type_without_header_comes_from_name(name, content_type):
    assert choose_content_type(None, name) == content_type


@pytest.mark.parametrize("name", ["clip", "clip.", "clip.unknown-suffix", ""])
def test_content_type_of_unknown_suffix_is_none(name):
    assert choose_content_type(None, name) is None
