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
    results.write_summary({"lines": 2, "finished": True, "run": []})
    assert list(results.read_rows()) == ROWS
    assert results.read_summary() == {"lines": 2, "finished": True, "run": []}


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


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"{broken", b"[" * 100_000, b'{"title": "my book"}'])
def test_a_summary_that_no_batch_has_written_is_not_overwritten(results, content):
    results.write_summary({})
    results.summary_path.fs.pipe_file(results.summary_path.path, content)
    with pytest.raises(DestinationError, match=r"is none that a batch has written, and would be overwritten"):
        results.read_summary()


@pytest.mark.parametrize("rows", [[], ROWS[:1]])
def test_a_result_manifest_of_which_a_part_is_gone_is_an_error(results, rows):
    results.write_rows(rows)
    with pytest.raises(DestinationError, match=rf"has {len(rows)} lines of at least 2 .* a part is gone"):
        results.require_rows(len(rows), {"lines": 4, "stored": 1, "failed": 1, "invalid": 1, "pending": 1})


def test_a_result_manifest_that_somebody_has_removed_is_none(results):
    results.require_rows(0, {"lines": 2, "stored": 2})


def test_lines_for_which_nothing_was_paid_may_be_gone(results):
    results.write_rows(ROWS[:1])
    results.require_rows(1, {"lines": 9, "stored": 1, "invalid": 4, "pending": 4})
