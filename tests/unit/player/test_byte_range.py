import pytest

from airflow_provider_mps.player.byte_range import UnsatisfiableRangeError, parse_range


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
def test_a_range_is_its_first_byte_and_the_one_behind_its_last(header, part):
    assert parse_range(header, 100) == part


@pytest.mark.parametrize(
    "header", [None, "", "bytes=-", "bytes=5-4", "items=0-1", "bytes=0-1,5-6", "bytes=a-b", "bytes=٣-٤"]
)
def test_what_is_no_single_range_is_answered_with_the_whole(header):
    assert parse_range(header, 100) is None


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=100-", 100), ("bytes=100-200", 100), ("bytes=-0", 100), ("bytes=0-", 0)]
)
def test_a_range_without_any_byte_is_refused(header, size):
    with pytest.raises(UnsatisfiableRangeError):
        parse_range(header, size)
