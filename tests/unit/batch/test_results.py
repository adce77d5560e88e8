import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.batch.results import Results
from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.errors import DestinationError

ROWS = [Row("Grüße", 1, LineStatus.STORED, crc64="17296469013905370602"), Row(None, 2, LineStatus.INVALID, error="why")]


@pytest.fixture(params=["file", "memory"])
def results(request, tmp_path):
    return Results(ObjectStoragePath(f"{request.param}://{tmp_path}/clips"))


def test_what_is_written_is_read(results):
    results.write_rows(ROWS)
    results.write_summary({"lines": 2, "finished": True})
    assert list(results.read_rows()) == ROWS
    assert results.read_summary() == {"lines": 2, "finished": True}


def test_at_first_there_is_nothing(results):
    assert list(results.read_rows()) == []
    assert results.read_summary() == {}


def test_many_rows_are_written_in_blocks(results):
    many = [Row(f"{number}", number, LineStatus.UNKNOWN, error="e" * 1000) for number in range(3000)]
    results.write_rows(iter(many))
    assert list(results.read_rows()) == many


def test_a_writing_that_fails_leaves_what_was_there(results):
    def failing():
        yield ROWS[0]
        raise RuntimeError("stopped")

    results.write_rows(ROWS)
    with pytest.raises(Exception, match="stopped"):
        results.write_rows(failing())
    assert list(results.read_rows()) == ROWS


@pytest.mark.parametrize("content", [b"no json\n", b'{"id": "a"}\n', b"\xff\xfe"])
def test_a_spoilt_one_is_an_error_and_never_taken_for_nothing(results, content):
    results.write_rows(ROWS)
    results.rows_path.fs.pipe_file(results.rows_path.path, content)
    with pytest.raises(DestinationError, match=r"tells what has been paid already: mend it, or remove it"):
        list(results.read_rows())


@pytest.mark.parametrize("content", [b"", b"[]", b"{broken"])
def test_a_spoilt_summary_is_as_good_as_none(results, content):
    results.write_summary({})
    results.summary_path.fs.pipe_file(results.summary_path.path, content)
    assert results.read_summary() == {}
