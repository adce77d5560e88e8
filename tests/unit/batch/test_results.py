import json

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.batch.results import Results
from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.exceptions import DestinationError

ROWS = [Row("Grüße", 1, LineStatus.STORED, crc64="17296469013905370602"), Row(None, 2, LineStatus.INVALID, error="why")]


@pytest.fixture(params=["file", "memory"])
def results(request, tmp_path):
    return Results(ObjectStoragePath(f"{request.param}://{tmp_path}/clips"))


def test_written_rows_and_summary_are_read_back(results):
    results.write_rows(ROWS)
    results.write_summary({"lines": 2, "finished": True, "run": []})
    assert list(results.read_rows()) == ROWS
    assert results.read_summary() == {"lines": 2, "finished": True, "run": []}


def test_new_destination_has_no_results(results):
    assert list(results.read_rows()) == []
    assert results.read_summary() == {}


def test_many_rows_are_written_in_blocks(results):
    many = [Row(f"{number}", number, LineStatus.UNKNOWN, error="e" * 1000) for number in range(3000)]
    results.write_rows(iter(many))
    assert list(results.read_rows()) == many


def test_failed_write_leaves_the_old_rows(results):
    def failing():
        yield ROWS[0]
        raise RuntimeError("stopped")

    results.write_rows(ROWS)
    with pytest.raises(Exception, match="stopped"):
        results.write_rows(failing())
    assert list(results.read_rows()) == ROWS


@pytest.mark.parametrize("content", [b"no json\n", b'{"id": "a"}\n', b"\xff\xfe"])
def test_damaged_result_manifest_raises_an_error(results, content):
    results.write_rows(ROWS)
    results.rows_path.fs.pipe_file(results.rows_path.path, content)
    with pytest.raises(DestinationError, match=r"records what is billed already: restore it, or remove it"):
        list(results.read_rows())


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"{broken", b"[" * 100_000, b'{"title": "my book"}'])
def test_summary_of_another_program_raises_an_error(results, content):
    results.write_summary({})
    results.summary_path.fs.pipe_file(results.summary_path.path, content)
    with pytest.raises(DestinationError, match=r"was not written by a batch and would be overwritten"):
        results.read_summary()


@pytest.mark.parametrize("rows", [[], ROWS[:1]])
def test_truncated_result_manifest_raises_an_error(results, rows):
    results.write_rows(rows)
    with pytest.raises(DestinationError, match=rf"has {len(rows)} of at least 2 lines .* nothing was submitted"):
        results.validate_rows(len(rows), {"lines": 4, "stored": 1, "failed": 1, "invalid": 1, "pending": 1})


def test_summary_of_version_1_0_counts_its_own_status_names(results):
    results.write_rows(ROWS[:1])
    summary = {"lines": 5, "stored": 1, "unstored": 1, "refused": 1, "invalid": 1, "pending": 1}
    with pytest.raises(DestinationError, match="has 2 of at least 3 lines"):
        results.validate_rows(2, summary)
    results.validate_rows(3, summary)


def test_result_manifest_of_version_1_0_is_read(results):
    rows = [
        {"id": "a", "line": 1, "status": "unstored", "TaskId": "task-1", "error": "why"},
        {"id": "b", "line": 2, "status": "refused", "error": "why"},
    ]
    results.write_rows([])
    results.rows_path.fs.pipe_file(results.rows_path.path, "".join(json.dumps(row) + "\n" for row in rows).encode())
    assert list(results.read_rows()) == [
        Row("a", 1, LineStatus.STORE_FAILED, task_id="task-1", error="why"),
        Row("b", 2, LineStatus.REJECTED, error="why"),
    ]


def test_removed_result_manifest_is_accepted(results):
    results.validate_rows(0, {"lines": 2, "stored": 2})


def test_lines_that_are_not_billed_may_be_missing(results):
    results.write_rows(ROWS[:1])
    results.validate_rows(1, {"lines": 9, "stored": 1, "invalid": 4, "pending": 4})
