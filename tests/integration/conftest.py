from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass
class Run:
    """What came of a DAG run."""

    state: str
    tasks: dict[str, tuple[str, int]]
    """State and number of tries of each task."""
    instances: dict[str, Any]

    def xcom(self, task_id: str, key: str = "return_value") -> Any:
        return self.instances[task_id].xcom_pull(task_ids=task_id, key=key)


@pytest.fixture
def run_dag(airflow_database):
    """Run a DAG of the tests' DAG folder on a real Airflow, and tell what came of it."""

    def run(module: str, dag_id: str, **conf: Any) -> Run:
        dag = vars(importlib.import_module(module))[dag_id]
        if not hasattr(dag, "test"):
            dag = dag()
        finished = dag.test(run_conf=conf)
        instances = {instance.task_id: instance for instance in finished.get_task_instances()}
        return Run(
            str(finished.state),
            {name: (str(instance.state), instance.try_number) for name, instance in instances.items()},
            instances,
        )

    return run
