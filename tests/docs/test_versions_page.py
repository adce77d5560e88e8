"""docs/airflow-versions.md: its rows are the tests of tests/matrix, its versions those of dev/matrix.py."""

import re
import tomllib

import pytest

from dev.airflow_environment import REPOSITORY
from dev.known_faults import KNOWN_FAULTS
from dev.matrix import AIRFLOWS, make_title, read_phrases
from tests.docs.pages import DOCS, read_section, read_tables

PAGE = DOCS / "airflow-versions.md"
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def versions():
    return {row["Airflow"]: row for row in next(read_tables(PAGE.read_text()))}


@pytest.fixture(scope="module")
def features():
    (table,) = read_tables(read_section(PAGE, "What was tested on each version?"))
    return table


def test_version_table_lists_airflows_of_the_matrix(versions):
    listed = {name: (row["Tested release"], tuple(row["Python"].split(", "))) for name, row in versions.items()}
    assert listed == {name: (airflow.version, airflow.pythons) for name, airflow in AIRFLOWS.items()}


def test_versions_equal_package_metadata(versions):
    pythons = {python for airflow in AIRFLOWS.values() for python in airflow.pythons}
    prefix = "Programming Language :: Python :: "
    assert pythons == {each.removeprefix(prefix) for each in PYPROJECT["classifiers"] if each.startswith(prefix)}
    oldest = min(AIRFLOWS, key=lambda name: [int(part) for part in name.split(".")])
    assert f"apache-airflow>={oldest}" in PYPROJECT["dependencies"]
    python = PYPROJECT["requires-python"].removeprefix(">=")
    assert f"Airflow {oldest} and later, with Python {python} or later" in " ".join(PAGE.read_text().split())


def test_common_compat_minimum_equals_package_metadata():
    name = "apache-airflow-providers-common-compat"
    (minimum,) = (each.partition(">=")[2] for each in PYPROJECT["dependencies"] if each.startswith(name))
    assert f"`{name}` must be {minimum} or later" in " ".join(PAGE.read_text().split())


def test_feature_rows_are_phrases_of_the_matrix_tests(features):
    assert [row["Feature"] for row in features] == list(read_phrases().values())


def test_feature_columns_are_the_pairs_of_the_matrix(features):
    titles = [make_title(name, airflow.pythons) for name, airflow in AIRFLOWS.items()]
    assert list(features[0]) == ["Feature", *titles]


def test_feature_cells_are_results(features):
    cells = {cell for row in features for title, cell in row.items() if title != "Feature"}
    assert cells <= {"Yes", "No", "Not measured"}


def test_features_missing_on_a_version_are_named_in_its_row(versions, features):
    """A *No* in the long table is a reason in the short one."""
    words = {"`make demo` stores": "make demo", "*Listen* view": "*Listen* view", "asset alias": "asset events"}
    for row in features:
        for title, cell in row.items():
            if cell == "No":
                (word,) = [word for part, word in words.items() if part in row["Feature"]]
                assert word in versions[title.partition(" ")[0]]["What is missing"], (row["Feature"], title)


def test_known_faults_are_those_of_the_tests():
    (table,) = read_tables(read_section(PAGE, "Faults of Airflow that lose tasks"))
    assert [row["Line in the scheduler's log"] for row in table] == [f"`{fault.message}`" for fault in KNOWN_FAULTS]
    for row, fault in zip(table, KNOWN_FAULTS, strict=True):
        assert re.match(r"[\d.]+", row["Seen on"])[0].rstrip(".") in fault.airflows
        assert fault.url in row["Fixed in"]
