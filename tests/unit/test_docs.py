"""The pages: what they lead to is there, and their code is code."""

import ast
import re

import pytest
import yaml

from dev.airflow_environment import REPOSITORY

PAGES = sorted((REPOSITORY / "docs").glob("*.md"))
READ = [*(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")), *PAGES]


def anchors_of(page):
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.mark.parametrize("page", READ, ids=lambda page: page.name)
def test_every_link_and_picture_has_a_target(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors_of(file), target


@pytest.mark.parametrize("page", READ, ids=lambda page: page.name)
def test_every_python_block_parses(page):
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        ast.parse(re.sub(r"^--8<--.*$", "", block, flags=re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_included_files_use_the_site_syntax(page):
    for line in re.findall(r"^.*--8.*$", page.read_text(), re.MULTILINE):
        shown = re.fullmatch(r'--8<-- "(.+)"', line)
        assert shown, line
        assert (REPOSITORY / shown[1]).exists()


def test_every_page_is_in_the_navigation():
    listed = set(
        re.findall(r"[\w-]+\.md", yaml.safe_dump(yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"]))
    )
    assert listed == {page.name for page in PAGES}


def test_every_reliability_row_names_an_existing_test():
    rows = [
        row
        for row in re.findall(r"^\|.*\|$", (REPOSITORY / "docs" / "reliability.md").read_text(), re.MULTILINE)
        if not row.startswith(("|---", "| fault "))
    ]
    assert len(rows) > 50
    require_tests(rows)


def test_every_billing_row_names_an_existing_test():
    page = (REPOSITORY / "docs" / "billing.md").read_text()
    ways = page.partition("## Every way")[2].partition("### What nothing prevents")[0]
    rows = [row for row in re.findall(r"^\|.*\|$", ways, re.MULTILINE) if not row.startswith(("|---", "| what "))]
    assert len(rows) > 15
    require_tests(rows)


def require_tests(rows):
    for row in rows:
        named = re.search(r"`([\w/]+\.py)::(test_\w+)`", row)
        assert named, row
        assert f"def {named[2]}(" in (REPOSITORY / "tests" / named[1]).read_text(), row
