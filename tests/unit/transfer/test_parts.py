import pytest

from airflow_provider_mps.transfer.parts import MAX_PARTS, PART_SIZE, part_size

MIB = 1024 * 1024
S3_MINIMUM = 5 * MIB
S3_MAXIMUM = 5 * 1024 * MIB
LARGEST_OBJECT = 5 * 1024 * 1024 * MIB


@pytest.mark.parametrize("length", [1, PART_SIZE, 10_000 * PART_SIZE, 10_000 * PART_SIZE + 1, LARGEST_OBJECT])
def test_parts_of_a_known_length_are_alike_and_within_the_limits(length):
    size = part_size(0, length)
    assert S3_MINIMUM <= size <= S3_MAXIMUM
    assert -(-length // size) <= MAX_PARTS
    assert part_size(length // 2, length) == size


def test_parts_of_an_unknown_length_grow_so_that_the_largest_object_fits():
    sent, parts = 0, 0
    while sent < LARGEST_OBJECT:
        size = part_size(sent, None)
        assert S3_MINIMUM <= size <= S3_MAXIMUM
        sent, parts = sent + size, parts + 1
    assert parts <= MAX_PARTS


def test_what_fits_memory_well_is_sent_in_small_parts_whether_its_length_is_known_or_not():
    assert part_size(0, 4 * 1024 * MIB) == part_size(4 * 1024 * MIB, None) == PART_SIZE


@pytest.mark.parametrize(("sent", "length"), [(0, 123_456_789_012), (123_456_789_012, None)])
def test_parts_are_whole_mebibytes(sent, length):
    assert part_size(sent, length) % MIB == 0
