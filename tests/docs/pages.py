"""Read the Markdown pages: their code blocks and their tables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dev.airflow_environment import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.glob("*.md"))
ALL_PAGES = [*(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")), *PAGES]


def page_id(page: Path) -> str:
    """Return the id of a page in parametrized tests."""
    return page.name


def read_blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page, without the indentation of a list item."""
    blocks = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", code, flags=re.MULTILINE) for indent, code in blocks]


def read_section(page: Path, heading: str) -> str:
    """Return the text below a heading, up to the next one of its level or above."""
    match = re.search(rf"^(#+) {re.escape(heading)}$", page.read_text(), re.MULTILINE)
    assert match, f"{page.name} has no heading {heading!r}"
    rest = page.read_text()[match.end() :]
    end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def read_tables(text: str) -> Iterator[list[dict[str, str]]]:
    """Yield each table as a list of rows; a row maps the header's cells to its own."""
    for table in re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE):
        header, _, *rows = (_split_row(line) for line in table.strip().split("\n"))
        yield [dict(zip(header, row, strict=True)) for row in rows]


def _split_row(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
