"""The table of example DAGs lists those there are."""

import re

from dev.airflow_environment import EXAMPLE_DAGS
from tests.docs.pages import DOCS, read_tables


def test_page_lists_every_example_dag():
    (table,) = read_tables((DOCS / "example-dags.md").read_text())
    listed = sorted((row["File"].strip("`"), row["DAG"].strip("`")) for row in table)
    assert listed == sorted(
        (file.name, dag_id)
        for file in EXAMPLE_DAGS.glob("*.py")
        for dag_id in re.findall(r"^(\w+)\(\)$", file.read_text(), re.MULTILINE)
    )
