import hashlib
import io
import os

from airflow_provider_mps.storage.writers.s3_body import PartBody, rewind_body

PART = bytearray(os.urandom(1000))


def test_part_body_reads_like_a_file():
    body, file = PartBody(PART), io.BytesIO(PART)
    for step in (
        lambda one: one.read(10),
        lambda one: one.tell(),
        lambda one: one.seek(5, os.SEEK_CUR),
        lambda one: one.read(),
        lambda one: one.read(1),
        lambda one: one.seek(0, os.SEEK_END),
        lambda one: one.seek(-7, os.SEEK_END),
        lambda one: one.read(100),
        lambda one: one.seek(0),
        lambda one: hashlib.sha256(one.read()).digest(),
    ):
        assert step(body) == step(file)


def test_part_body_does_not_copy():
    part = bytearray(b"before")
    body = PartBody(part)
    part[:] = b"after!"
    assert body.read() == b"after!"


def test_rewind_body_resets_position():
    body = PartBody(PART)
    body.read(10)
    rewind_body(params={"Body": body})
    assert body.tell() == 0
    rewind_body(params={})
