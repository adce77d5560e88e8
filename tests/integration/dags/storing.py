"""Transfers that are interrupted; for ``test_storing_killed.py``."""

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_mps.operators.text_to_speech import TextToSpeechToObjectStorageOperator

for name, arguments in {
    "once": {},
    "retried": {"retries": 1, "retry_delay": timedelta(seconds=2)},
    "timed_out": {"execution_timeout": timedelta(seconds=3)},
}.items():
    with DAG(f"storing_{name}", schedule=None) as dag:
        TextToSpeechToObjectStorageOperator(
            task_id="store",
            mps_task_id="{{ dag_run.conf['mps_task_id'] }}",
            destination="{{ dag_run.conf['destination'] }}",
            **arguments,
        )
    globals()[dag.dag_id] = dag
