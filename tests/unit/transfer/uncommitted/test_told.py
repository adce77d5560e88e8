import pytest

from airflow_provider_mps.transfer.uncommitted.told import Told


@pytest.mark.parametrize(
    ("told", "defect"),
    [
        (Told(), None),
        (Told(size=5), None),
        (Told(size=5, crc64=7), None),
        (Told(size=4), "4 bytes, not 5"),
        (Told(crc64=8), "CRC-64 is 8, not 7"),
    ],
)
def test_what_a_store_tells_is_compared_as_far_as_it_tells(told, defect):
    found = told.defect(5, 7)
    assert (found is None) if defect is None else (defect in found)


def test_the_log_says_what_was_told():
    assert (Told().what, Told(size=1).what, Told(1, 2).what) == ("nothing", "size", "size and CRC-64")
    assert Told(md5=True).what == "MD5"
