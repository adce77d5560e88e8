"""Print the outcome of a run from the database of any Airflow, as JSON by task id."""

from __future__ import annotations

import json
import sys
from operator import attrgetter

from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session

try:
    from airflow.models.xcom import XComModel

    value_of = XComModel.deserialize_value
except ImportError:  # Airflow 2, which reads the value by itself
    from airflow.models.xcom import XCom as XComModel

    value_of = attrgetter("value")


def main() -> None:
    dag_id, run_id = sys.argv[1:]
    with create_session() as session:
        outcome = {
            task.task_id: {"state": task.state and str(task.state), "try_number": task.try_number, "xcom": {}}
            for task in session.query(TaskInstance).filter_by(dag_id=dag_id, run_id=run_id)
        }
        for entry in session.query(XComModel).filter_by(dag_id=dag_id, run_id=run_id):
            outcome[entry.task_id]["xcom"][entry.key] = value_of(entry)
    sys.stdout.write(f"OUTCOME {json.dumps(outcome)}\n")


if __name__ == "__main__":
    main()
