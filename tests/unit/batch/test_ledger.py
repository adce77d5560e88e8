import pytest

from airflow_provider_mps.batch.ledger import Ledger
from airflow_provider_mps.batch.row import LineStatus, Row


@pytest.fixture
def ledger():
    ledger = Ledger()
    yield ledger
    ledger.close()


def row(name, line, status=LineStatus.STORED, **more):
    return Row(name, line, status, **more)


def test_a_row_is_found_by_its_id(ledger):
    ledger.put(row("a", 1, crc64="17296469013905370602", duration=1.5))
    assert ledger.find("a") == row("a", 1, crc64="17296469013905370602", duration=1.5)
    assert ledger.find("b") is None


def test_a_row_takes_the_place_of_the_one_of_the_same_id(ledger):
    ledger.put(row("a", 1, LineStatus.PROCESSING))
    ledger.put(row("a", 1))
    assert list(ledger.rows()) == [row("a", 1)]


def test_rows_come_in_the_order_of_the_manifest_and_earlier_ones_behind(ledger):
    for name, line in (("z", 2), ("a", 10), ("b", None), ("m", 1)):
        ledger.put(row(name, line))
    assert [found.id for found in ledger.rows()] == ["m", "z", "a", "b"]


def test_counts_and_sums_are_of_this_manifest(ledger):
    ledger.put(row("a", 1, task_id="t", characters=3, size=10, duration=0.5))
    ledger.put(row("b", 2, LineStatus.PENDING, characters=5))
    ledger.put(row("c", None, task_id="t", characters=7, size=10, duration=2.0))
    assert ledger.counts() == {LineStatus.STORED: 1, LineStatus.PENDING: 1}
    assert ledger.sums() == (3, 10, 0.5)


def test_an_empty_one_counts_nothing(ledger):
    assert ledger.counts() == {}
    assert ledger.sums() == (0, 0, 0.0)


def test_problems_are_what_has_ended_without_audio_the_first_ones_first(ledger):
    for line, status in enumerate(LineStatus, 1):
        ledger.put(row(f"id-{line}", line, status))
    found = [problem.status for problem in ledger.problems(10)]
    assert found == [
        LineStatus.UNSTORED,
        LineStatus.FAILED,
        LineStatus.REFUSED,
        LineStatus.INVALID,
        LineStatus.UNKNOWN,
    ]
    assert len(ledger.problems(2)) == 2
    assert [problem.status for problem in ledger.problems(1, LineStatus.UNKNOWN)] == [LineStatus.UNKNOWN]


def test_of_an_earlier_run_what_was_done_is_kept_and_its_lines_are_not(ledger):
    ledger.load([row("a", 1), row("b", 2, LineStatus.INVALID), row("a", 1, LineStatus.PROCESSING)])
    ledger.forget_lines()
    assert list(ledger.rows()) == [row("a", None, LineStatus.PROCESSING)]


def test_what_failed_can_be_tried_again_and_what_is_unknown_cannot(ledger):
    ledger.load(row(status.value, 1, status, task_id="t", error="why") for status in LineStatus)
    ledger.try_failed_again()
    again = [found.id for found in ledger.rows() if found.status is LineStatus.PENDING and found.task_id is None]
    assert again == ["failed", "refused"]
    assert ledger.find("unknown").status is LineStatus.UNKNOWN


def test_rows_are_a_snapshot_beside_which_others_change(ledger):
    ledger.load(row(f"{number:04}", number) for number in range(2000))
    rows = ledger.rows()
    next(rows)
    ledger.put(row("1999", 1999, LineStatus.FAILED))
    assert {found.status for found in rows} == {LineStatus.STORED}


def test_an_error_may_quote_what_is_no_text(ledger):
    ledger.put(row(None, 1, LineStatus.INVALID, error="text_path \ud83d cannot be read"))
    assert [found.error for found in ledger.rows()] == ["text_path ? cannot be read"]
