"""One sensor in each mode, for the MPS task in the run's configuration."""

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor

for mode, arguments in {
    "reschedule": {},
    "poke": {"mode": "poke"},
    "deferred": {"deferrable": True},
    "backoff": {"exponential_backoff": True, "max_wait": 2},
    "deferred_backoff": {"deferrable": True, "exponential_backoff": True, "max_wait": 2},
}.items():
    with DAG(mode, schedule=None) as dag:
        TextToSpeechTaskSensor(
            task_id="wait",
            mps_task_id="{{ dag_run.conf['mps_task_id'] }}",
            poke_interval=0.3,
            timeout=60,
            retries=1,
            retry_delay=timedelta(seconds=0.1),
            **arguments,
        )
    globals()[dag.dag_id] = dag
