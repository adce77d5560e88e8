"""Clips by dynamic task mapping, and one batch beside them; the run's configuration says what and where to."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator, TextToSpeechToObjectStorageOperator
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor

DESTINATION = "{{ dag_run.conf['destination'] }}"
# A machine can be lost at any time; a retry bills nothing again.
RETRIES = {"retries": 5, "retry_delay": timedelta(seconds=5), "retry_exponential_backoff": False}

with DAG("many_clips", schedule=None, max_active_tasks=64, default_args=RETRIES) as many_clips:

    @task
    def texts(dag_run: object = None) -> list[str]:
        """Return what to speak."""
        return [f"This is clip {number}." for number in range(dag_run.conf["clips"])]  # type: ignore[attr-defined]

    submit = TextToSpeechOperator.partial(task_id="submit", voice_id="voice-1").expand(text=texts())
    wait = TextToSpeechTaskSensor.partial(task_id="wait", deferrable=True, poke_interval=15).expand(
        mps_task_id=submit.output
    )
    store = TextToSpeechToObjectStorageOperator.partial(
        task_id="store", destination=f"{DESTINATION}clips/", if_exists="skip"
    ).expand(mps_task_id=submit.output)
    wait >> store

with DAG("one_batch", schedule=None, default_args=RETRIES) as one_batch:
    TextToSpeechBatchOperator(
        task_id="batch",
        manifest="{{ dag_run.conf['manifest'] }}",
        destination=f"{DESTINATION}batch/",
        deferrable=True,
        voice_id="voice-1",
    )
