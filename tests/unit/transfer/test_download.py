import pytest

from airflow_provider_mps.transfer.download import CRC_HEADER, Source, Verdict, judge

WHOLE = Source(length=100, crc64=7, etag='"a"')


def test_what_the_server_tells_is_read_from_its_headers():
    assert Source.from_headers({"Content-Length": "100", CRC_HEADER: "7", "ETag": '"a"'}) == WHOLE
    assert Source.from_headers({}) == Source(None, None, "")


@pytest.mark.parametrize("value", ["", "abc", "-1", "1.5", "١", "1 2", "0x10"])
def test_a_length_or_checksum_that_is_no_number_counts_as_not_told(value):
    assert Source.from_headers({"Content-Length": value, CRC_HEADER: value}) == Source()


@pytest.mark.parametrize(
    ("source", "resumes"),
    [
        (WHOLE, True),
        (Source(length=100, etag='W/"a"'), False),
        (Source(length=100), False),
        (Source(etag='"a"'), False),
    ],
)
def test_only_a_known_length_and_a_strong_etag_allow_to_resume(source, resumes):
    assert source.can_resume is resumes


def test_the_rest_is_asked_for_only_if_the_audio_has_not_changed():
    assert WHOLE.range_headers(40) == {"Range": "bytes=40-", "If-Range": '"a"'}
    assert WHOLE.range_headers(0) == {}


@pytest.mark.parametrize(
    ("received", "crc", "sound"), [(100, 7, True), (99, 7, False), (101, 7, False), (0, 7, False), (100, 8, False)]
)
def test_audio_is_sound_when_length_and_checksum_are_the_servers(received, crc, sound):
    assert (WHOLE.defect(received, crc) is None) is sound


def test_what_was_not_told_cannot_be_checked_and_the_log_says_so():
    assert Source().defect(5, 5) is None
    assert "neither" in Source().checks
    assert not Source().can_be_checked
    assert WHOLE.checks == "length and CRC-64"
    assert Source(length=1).checks == "length"


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.WHOLE),
        (403, Verdict.LINK_REFUSED),
        (404, Verdict.LINK_REFUSED),
        (416, Verdict.RANGE_REFUSED),
        (206, Verdict.RANGE_REFUSED),
        (408, Verdict.TRY_AGAIN),
        (429, Verdict.TRY_AGAIN),
        (500, Verdict.TRY_AGAIN),
        (503, Verdict.TRY_AGAIN),
        (400, Verdict.REFUSED),
        (204, Verdict.REFUSED),
        (304, Verdict.REFUSED),
    ],
)
def test_every_status_has_its_meaning(status, verdict):
    assert judge(status, {}, 0, Source()) is verdict


@pytest.mark.parametrize(
    ("content_range", "verdict"),
    [
        ("bytes 40-99/100", Verdict.REST),
        ("bytes 41-99/100", Verdict.RANGE_REFUSED),
        ("bytes 40-99/101", Verdict.RANGE_REFUSED),
        ("bytes 40-98/100", Verdict.RANGE_REFUSED),
        ("bytes 40-99/*", Verdict.RANGE_REFUSED),
        ("bytes */100", Verdict.RANGE_REFUSED),
        ("", Verdict.RANGE_REFUSED),
    ],
)
def test_a_rest_is_taken_only_where_it_is_exactly_what_is_missing(content_range, verdict):
    assert judge(206, {"Content-Range": content_range}, 40, WHOLE) is verdict


def test_a_range_that_nobody_asked_for_is_refused():
    assert judge(206, {"Content-Range": "bytes 0-99/100"}, 0, WHOLE) is Verdict.RANGE_REFUSED
