"""The pages read well raw and as a site, link to what exists, and name existing tests."""

import re

import pytest
import yaml

from dev.airflow_environment import REPOSITORY
from tests.docs.pages import ALL_PAGES, DOCS, PAGES, page_id, read_tables


def anchors_of(page):
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.mark.parametrize("page", ALL_PAGES, ids=page_id)
def test_every_link_and_picture_has_a_target(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors_of(file), target


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_page_needs_no_site_to_be_read(page):
    """Includes, generated references and admonitions are empty or odd where most people read: in the repository."""
    assert not re.findall(r"^ *(?:--8<--|:::|!!!|\?\?\?).*$", page.read_text(), re.MULTILINE)


def test_every_page_is_in_the_navigation():
    listed = set(
        re.findall(r"[\w-]+\.md", yaml.safe_dump(yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"]))
    )
    assert listed == {page.name for page in PAGES}


def test_every_reliability_row_names_existing_tests():
    page = (DOCS / "reliability.md").read_text()
    tables = list(read_tables(page))
    rows = [row for table in tables for row in table]
    # Each line of a table is its header, its separator or a row: a blank line within a table would hide rows.
    assert len(re.findall(r"^\|", page, re.MULTILINE)) == len(rows) + 2 * len(tables)
    assert len(rows) > 125
    for row in rows:
        assert list(row) == ["Fault", "Promise", "Test"]
        require_tests([row["Test"]])
        assert re.fullmatch(r"`[\w/]+\.py::test_\w+`(, `[\w/]+\.py::test_\w+`)*", row["Test"]), row
        for cell in (row["Fault"], row["Promise"]):
            assert re.fullmatch(r"[A-Z`].*\.", cell), cell


def test_every_billing_row_names_an_existing_test():
    page = (DOCS / "billing.md").read_text()
    ways = page.partition("## Every way")[2].partition("### What is not prevented")[0]
    rows = [row for row in re.findall(r"^\|.*\|$", ways, re.MULTILINE) if not row.startswith(("|---", "| What "))]
    assert len(rows) > 15
    require_tests(rows)


def require_tests(rows):
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row)
        assert named, row
        for file, name in named:
            assert f"def {name}(" in (REPOSITORY / "tests" / file).read_text(), row
