from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.spending import Spending
from airflow_provider_mps.batch.summary import Summary, format_voice_table

PROBLEMS = [
    Row("a|b", 3, LineStatus.FAILED, error="no such word\nRequestId req-1"),
    Row(None, 9, LineStatus.INVALID, error="the line is not JSON"),
]
SUMMARY = Summary(
    {LineStatus.STORED: 1998, LineStatus.FAILED: 1, LineStatus.INVALID: 3}, 12345, 48044, 3661.5, PROBLEMS
)


def test_json_has_counts_and_sums():
    summary = SUMMARY.to_json()
    assert summary["lines"] == 2002
    assert (summary["stored"], summary["failed"], summary["unknown"]) == (1998, 1, 0)
    assert (summary["characters"], summary["bytes"], summary["seconds"]) == (12345, 48044, 3661.5)


def test_log_line_has_nonzero_counts_and_sums():
    assert SUMMARY.to_line() == (
        "2,002 lines: 1,998 stored, 1 failed, 3 invalid; 12,345 characters accepted, 1:01:02 of audio stored"
    )


def test_markdown_lists_counts_and_problems():
    table = SUMMARY.to_markdown()
    assert "| stored | 1,998 |" in table
    assert "| 3 | a\\|b | failed | no such word RequestId req-1 |" in table
    assert "and 2 more, in the result manifest" in table


def test_markdown_cell_cannot_be_left_with_a_backslash():
    spending = Spending()
    spending.add("cheap\\| 1 | 1 |", 1000)
    assert format_voice_table(spending).splitlines()[2] == "| cheap\\\\\\| 1 \\| 1 \\| | 1 | 1,000 |"


def test_markdown_without_problems_has_no_error_column():
    assert "error" not in Summary({LineStatus.STORED: 1}).to_markdown()


def test_named_problems_lists_ids_and_the_rest():
    assert SUMMARY.failures == 4
    assert SUMMARY.format_problem_names() == "a|b (failed), line 9 (invalid) and 2 more"
