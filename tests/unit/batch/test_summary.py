from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.summary import Summary

PROBLEMS = [
    Row("a|b", 3, LineStatus.FAILED, error="no such word\nRequestId req-1"),
    Row(None, 9, LineStatus.INVALID, error="the line is not JSON"),
]
SUMMARY = Summary(
    {LineStatus.STORED: 1998, LineStatus.FAILED: 1, LineStatus.INVALID: 3}, 12345, 48044, 3661.5, PROBLEMS
)


def test_counts_and_sums_are_told():
    told = SUMMARY.to_json()
    assert told["lines"] == 2002
    assert (told["stored"], told["failed"], told["unknown"]) == (1998, 1, 0)
    assert (told["characters"], told["bytes"], told["seconds"]) == (12345, 48044, 3661.5)


def test_the_log_has_what_there_is():
    assert SUMMARY.to_line() == (
        "2,002 lines: 1,998 stored, 1 failed, 3 invalid; 12,345 characters accepted, 1:01:02 of audio stored"
    )


def test_the_table_for_people_counts_and_names():
    table = SUMMARY.to_markdown()
    assert "| stored | 1,998 |" in table
    assert "| 3 | a\\|b | failed | no such word RequestId req-1 |" in table
    assert "and 2 more, in the result manifest" in table


def test_a_table_without_problems_names_none():
    assert "error" not in Summary({LineStatus.STORED: 1}).to_markdown()


def test_problems_are_named_in_a_sentence():
    assert SUMMARY.failures == 4
    assert SUMMARY.named_problems() == "a|b (failed), line 9 (invalid) and 2 more"
