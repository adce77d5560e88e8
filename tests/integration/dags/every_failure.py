"""One DAG run with all failures whose errors could quote a secret."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator, TextToSpeechToObjectStorageOperator
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor

S3, S3_WRONG = "{{ dag_run.conf['s3'] }}", "{{ dag_run.conf['s3_wrong'] }}"
NO_BUCKET = "{{ dag_run.conf['no_bucket'] }}"
TEXT = "Zephyrs just vexed a quick fawn"
UNUSABLE_CONN_IDS = ("mps_wrong_key", "mps_wrong_token", "mps_dead", "mps_proxy")

with DAG("every_failure", schedule=None, default_args={"execution_timeout": None}) as dag:
    submit = TextToSpeechOperator(task_id="submit", text=TEXT, voice_id="voice-1")
    for conn_id in UNUSABLE_CONN_IDS:
        TextToSpeechOperator(task_id=f"submit_{conn_id}", text=TEXT, voice_id="voice-1", mps_conn_id=conn_id)
        waits = {"mps_task_id": submit.output, "mps_conn_id": conn_id, "poke_interval": 1, "timeout": 15}
        TextToSpeechTaskSensor(task_id=f"wait_{conn_id}", **waits)
        TextToSpeechTaskSensor(task_id=f"deferred_{conn_id}", deferrable=True, **waits)
    TextToSpeechOperator(task_id="refused", text=TEXT, voice_id="voice-1", ext_param={"synExt": {"volume": 1}})

    broken = TextToSpeechOperator(
        task_id="broken", text=f"[fail] {TEXT}", voice_id="voice-1", wait_for_completion=True, poll_interval=1
    )
    TextToSpeechOperator(
        task_id="broken_deferred",
        text=f"[fail] {TEXT}",
        voice_id="voice-1",
        wait_for_completion=True,
        deferrable=True,
        poll_interval=1,
    )

    ready = TextToSpeechTaskSensor(task_id="ready", mps_task_id=submit.output, poke_interval=1)
    in_triggerer = TextToSpeechTaskSensor(
        task_id="in_triggerer", mps_task_id=submit.output, end_from_trigger=True, poke_interval=1
    )
    for name, destination in {
        "stored": f"{S3}clip.wav",
        "no_bucket": f"{NO_BUCKET}clip.wav",
        "wrong_s3_key": f"{S3_WRONG}clip.wav",
        "no_place": "s3://",
    }.items():
        store = TextToSpeechToObjectStorageOperator(
            task_id=name, mps_task_id=submit.output, destination=destination, transfer_timeout=30
        )
        [ready, in_triggerer] >> store

    batches = {"manifest": "{{ dag_run.conf['manifest'] }}", "voice_id": "voice-1", "poll_interval": 1}
    batches["on_line_failure"] = "continue"
    # These two succeed. On a busy machine, one may lose its lock; a retry then resumes it.
    resumed = {**batches, "retries": 3, "retry_delay": timedelta(seconds=0)}
    TextToSpeechBatchOperator(task_id="batch", destination=f"{S3}batch/", **resumed)
    TextToSpeechBatchOperator(task_id="batch_deferred", destination=f"{S3}deferred/", deferrable=True, **resumed)
    TextToSpeechBatchOperator(task_id="batch_in_vain", destination=f"{S3_WRONG}batch/", **batches)
    TextToSpeechBatchOperator(
        task_id="batch_wrong_key", destination=f"{S3}wrong/", mps_conn_id="mps_wrong_key", **batches
    )
