"""A sensor in each mode and with each flag, for one task that the run's configuration names."""

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor

for mode in ("reschedule", "poke"):
    for name, arguments in {
        "plain": {"timeout": 60},
        "soft_fail": {"timeout": 60, "soft_fail": True},
        "short": {"timeout": 1},
        "short_soft_fail": {"timeout": 1, "soft_fail": True},
    }.items():
        with DAG(f"{mode}_{name}", schedule=None) as dag:
            TextToSpeechTaskSensor(
                task_id="wait",
                mps_task_id="{{ dag_run.conf['mps_task_id'] }}",
                mode=mode,
                poke_interval=0.3,
                retries=1,
                retry_delay=timedelta(seconds=0.1),
                **arguments,
            )
        globals()[dag.dag_id] = dag
