"""docs/operations.md: its log lines exist in the code, and its numbers follow from its formula."""

import ast
import re
from functools import cache

import pytest

from dev.airflow_environment import REPOSITORY
from tests.docs.pages import DOCS, read_blocks, read_section, read_tables

PAGE = DOCS / "operations.md"
LOG_LINES = [
    row["Search for"].strip("`") for row in next(read_tables(read_section(PAGE, "Which log lines do I search for?")))
]


@cache
def read_messages():
    """Return every string of the package, with a mark for each argument."""
    strings = []
    for file in (REPOSITORY / "airflow_provider_mps").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                strings.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                strings.append(re.sub(r"%[-+0-9.,]*[a-z]", "…", node.value))
    return "\n".join(strings)


@pytest.mark.parametrize("line", LOG_LINES)
def test_log_line_exists_in_the_code(line):
    assert line in read_messages()


def test_seconds_of_each_size_follow_from_the_formula():
    (formula,) = read_blocks(PAGE, "text")
    assert formula.strip() == "seconds = N / requests_per_second + T + poll_interval"
    *_, table = read_tables(read_section(PAGE, "What do I set for my number of clips?"))
    rows = {row.pop("Setting"): row for row in table}
    rates, manifests = rows["`requests_per_second`"], rows["Manifests"]
    for column, seconds in rows["`seconds` of each manifest"].items():
        lines = int(column.split()[0].replace(",", "")) / int(manifests[column].split(",")[0])
        assert round(lines / int(rates[column]) + 90 + 10) == int(seconds.split(",")[0])
