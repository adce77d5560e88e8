"""DAGs whose tasks wait in the triggerer."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor

TASK_COUNT = 50
WITHOUT_A_WORKER = {"start_from_trigger": True, "end_from_trigger": True, "poke_interval": 2, "timeout": 300}

with DAG("pipeline", schedule=None):
    submit = TextToSpeechOperator(task_id="submit", text="hello", voice_id="voice-1")
    wait = TextToSpeechTaskSensor(task_id="wait", mps_task_id=submit.output, **WITHOUT_A_WORKER)

    @task
    def report(result: dict) -> str:
        return result["VoiceId"]

    report(wait.output)

with DAG("mapped", schedule=None):
    TextToSpeechTaskSensor.partial(task_id="wait", **WITHOUT_A_WORKER).expand(
        mps_task_id=TextToSpeechOperator.partial(task_id="submit", voice_id="voice-1")
        .expand(text=["one", "two"])
        .output
    )

with DAG("many", schedule=None):
    for number in range(TASK_COUNT):
        TextToSpeechTaskSensor(
            task_id=f"wait_{number:02}",
            mps_task_id=f"{{{{ dag_run.conf['mps_task_ids'][{number}] }}}}",
            mps_conn_id="{{ dag_run.conf['mps_conn_id'] }}",
            # Some of them resume on a worker, whose log shows it if one resumes twice.
            **{**WITHOUT_A_WORKER, "end_from_trigger": number >= 10},
        )

with DAG("one", schedule=None):
    TextToSpeechTaskSensor(
        task_id="wait",
        mps_task_id="{{ dag_run.conf['mps_task_id'] }}",
        mps_conn_id="{{ dag_run.conf['mps_conn_id'] }}",
        **WITHOUT_A_WORKER,
    )
