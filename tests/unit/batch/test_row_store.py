from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.row_store import RowStore
from airflow_provider_mps.batch.summary import Summary


@pytest.fixture
def row_store():
    return RowStore()


def row(name, line, status=LineStatus.STORED, **fields):
    return Row(name, line, status, **fields)


def test_find_returns_the_row_of_an_id(row_store):
    row_store.put(row("a", 1, crc64="17296469013905370602", duration=1.5))
    assert row_store.find("a") == row("a", 1, crc64="17296469013905370602", duration=1.5)
    assert row_store.find("b") is None


def test_put_replaces_the_row_with_the_same_id(row_store):
    row_store.put(row("a", 1, LineStatus.PROCESSING))
    row_store.put(row("a", 1))
    assert list(row_store.rows()) == [row("a", 1)]


def test_rows_are_in_manifest_order_with_earlier_ones_last(row_store):
    for name, line in (("z", 2), ("a", 10), ("b", None), ("m", 1)):
        row_store.put(row(name, line))
    assert [found.id for found in row_store.rows()] == ["m", "z", "a", "b"]


def test_counts_and_sums_include_only_this_manifest(row_store):
    row_store.put(row("a", 1, task_id="t", characters=3, size=10, duration=0.5))
    row_store.put(row("b", 2, LineStatus.PENDING, characters=5))
    row_store.put(row("c", None, task_id="t", characters=7, size=10, duration=2.0))
    summary = row_store.summarize()
    assert summary.counts == {LineStatus.STORED: 1, LineStatus.PENDING: 1}
    assert (summary.characters, summary.size, summary.seconds) == (3, 10, 0.5)


def test_empty_store_counts_nothing(row_store):
    assert row_store.summarize() == Summary({}, 0, 0, 0.0, [])


def test_problems_are_the_first_lines_without_audio(row_store):
    for line, status in enumerate(LineStatus, 1):
        row_store.put(row(f"id-{line}", line, status))
    found = [problem.status for problem in row_store.problems(10)]
    assert found == [
        LineStatus.STORE_FAILED,
        LineStatus.FAILED,
        LineStatus.REJECTED,
        LineStatus.INVALID,
        LineStatus.UNKNOWN,
    ]
    assert len(row_store.problems(2)) == 2
    assert [problem.status for problem in row_store.problems(1, LineStatus.UNKNOWN)] == [LineStatus.UNKNOWN]


def test_clear_lines_keeps_results_and_drops_invalid_lines(row_store):
    row_store.load([row("a", 1), row("b", 2, LineStatus.INVALID), row("a", 1, LineStatus.PROCESSING)])
    row_store.forget_line_numbers()
    assert list(row_store.rows()) == [row("a", None, LineStatus.PROCESSING)]


def test_reset_failed_resets_failed_and_not_unknown_lines(row_store):
    row_store.load(row(status.value, 1, status, task_id="t", error="why") for status in LineStatus)
    row_store.reset_failed()
    reset = [found.id for found in row_store.rows() if found.status is LineStatus.PENDING and found.task_id is None]
    assert reset == ["failed", "rejected"]
    assert row_store.find("unknown").status is LineStatus.UNKNOWN


def test_rows_do_not_change_after_a_later_put(row_store):
    row_store.load(row(f"{number:04}", number) for number in range(2000))
    rows = iter(row_store.rows())
    next(rows)
    row_store.put(row("1999", 1999, LineStatus.FAILED))
    assert {found.status for found in rows} == {LineStatus.STORED}


def test_error_with_a_lone_surrogate_is_made_encodable(row_store):
    row_store.put(row(None, 1, LineStatus.INVALID, error="text_path \ud83d cannot be read"))
    assert [found.error for found in row_store.rows()] == ["text_path ? cannot be read"]


def test_load_adds_nothing_when_reading_the_rows_fails(row_store):
    def rows():
        yield row("a", 1)
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        row_store.load(rows())
    assert row_store.rows() == []


def add_rows(row_store):
    for number in range(20_000):
        row_store.put(row(f"{number}", number))


def test_rows_are_read_while_another_thread_adds_some(row_store):
    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(add_rows, row_store)
        while not adding.done():
            lines = [found.line for found in row_store.rows()]
            assert lines == list(range(len(lines)))
        adding.result()
    assert len(row_store.rows()) == 20_000


def test_clear_lines_keeps_rows_that_another_thread_adds(row_store):
    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(add_rows, row_store)
        while not adding.done():
            row_store.forget_line_numbers()
            row_store.reset_failed()
        adding.result()
    assert len(row_store.rows()) == 20_000
