import pytest

from airflow_provider_mps.player.audio_file import UnsatisfiableRangeError, parse_range


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-", (0, 100)),
        ("bytes=0-0", (0, 1)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        (" Bytes = 5 - 6 ", (5, 7)),
    ],
)
def test_range_is_parsed_into_start_and_stop(header, part):
    assert parse_range(header, 100) == part


@pytest.mark.parametrize(
    "header", [None, "", "bytes=-", "bytes=5-4", "items=0-1", "bytes=0-1,5-6", "bytes=a-b", "bytes=٣-٤"]
)
def test_header_without_a_single_range_gets_the_whole(header):
    assert parse_range(header, 100) is None


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=100-", 100), ("bytes=100-200", 100), ("bytes=-0", 100), ("bytes=0-", 0)]
)
def test_range_without_any_byte_is_rejected(header, size):
    with pytest.raises(UnsatisfiableRangeError):
        parse_range(header, size)
