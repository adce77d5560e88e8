"""The example DAGs."""

import re

from dev.airflow_environment import EXAMPLE_DAGS

EXAMPLES = [
    (file.stem, dag_id)
    for file in sorted(EXAMPLE_DAGS.glob("*.py"))
    for dag_id in re.findall(r"^(\w+)\(\)$", file.read_text(), re.MULTILINE)
]
"""Module and id of each one."""
