import pytest

from airflow_provider_mps.storage.writers.base import (
    MAX_PARTS,
    PART_SIZE_BYTES,
    AtomicWriter,
    BlockBuffer,
    WriteReceipt,
    get_part_size,
)

MIB = 1024 * 1024
S3_MINIMUM = 5 * MIB
S3_MAXIMUM = 5 * 1024 * MIB
LARGEST_OBJECT = 5 * 1024 * 1024 * MIB


@pytest.mark.parametrize(
    "length", [1, PART_SIZE_BYTES, 10_000 * PART_SIZE_BYTES, 10_000 * PART_SIZE_BYTES + 1, LARGEST_OBJECT]
)
def test_part_size_with_known_length_is_constant(length):
    size = get_part_size(0, length)
    assert S3_MINIMUM <= size <= S3_MAXIMUM
    assert -(-length // size) <= MAX_PARTS
    assert get_part_size(length // 2, length) == size


def test_part_size_without_length_grows_to_fit_largest_object():
    sent, parts = 0, 0
    while sent < LARGEST_OBJECT:
        size = get_part_size(sent, None)
        assert S3_MINIMUM <= size <= S3_MAXIMUM
        sent, parts = sent + size, parts + 1
    assert parts <= MAX_PARTS


def test_part_size_of_ordinary_files_is_the_minimum():
    assert get_part_size(0, 4 * 1024 * MIB) == get_part_size(4 * 1024 * MIB, None) == PART_SIZE_BYTES


@pytest.mark.parametrize(("sent", "length"), [(0, 123_456_789_012), (123_456_789_012, None)])
def test_part_size_is_a_multiple_of_1_mib(sent, length):
    assert get_part_size(sent, length) % MIB == 0


@pytest.mark.parametrize(
    ("receipt", "defect"),
    [
        (WriteReceipt(), None),
        (WriteReceipt(size=5), None),
        (WriteReceipt(size=5, crc64=7), None),
        (WriteReceipt(size=4), "4 bytes, not 5"),
        (WriteReceipt(crc64=8), "CRC-64 is 8, not 7"),
    ],
)
def test_receipt_defect_compares_reported_fields(receipt, defect):
    found = receipt.find_defect(5, 7)
    assert (found is None) if defect is None else (defect in found)


def test_receipt_lists_confirmed_fields():
    assert (WriteReceipt().confirmed, WriteReceipt(size=1).confirmed, WriteReceipt(1, 2).confirmed) == (
        "nothing",
        "size",
        "size and CRC-64",
    )
    assert WriteReceipt(md5=True).confirmed == "MD5"


class Writer(AtomicWriter):
    def get_block_size(self, _):
        return 1000


@pytest.mark.parametrize(("length", "sizes"), [(None, [1000, 1000]), (2300, [1000, 1000, 300]), (300, [300])])
def test_block_buffer_blocks_are_not_longer_than_rest_of_file(length, sizes):
    buffer = BlockBuffer(Writer(), length)
    data = bytes(length or 2300)
    blocks = [len(block) for block in buffer.fill(data)]
    assert blocks == sizes
    assert sum(blocks) + len(buffer.get_rest()) == len(data)
    assert len(buffer._block) <= max(sizes)


def test_block_buffer_takes_more_than_the_expected_length():
    buffer = BlockBuffer(Writer(), length=300)
    assert [len(block) for block in buffer.fill(bytes(2300))] == [300, 1000, 1000]
    assert buffer.get_rest() == b""
