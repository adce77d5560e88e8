"""The table of example DAGs lists those there are."""

from tests.docs.pages import DOCS, read_tables
from tests.examples import EXAMPLES


def test_page_lists_every_example_dag():
    (table,) = read_tables((DOCS / "example-dags.md").read_text())
    listed = sorted((row["File"].strip("`"), row["DAG"].strip("`")) for row in table)
    assert listed == sorted((f"{module}.py", dag_id) for module, dag_id in EXAMPLES)
