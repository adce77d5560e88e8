"""The same clips by one batch, and by dynamic task mapping; the run's configuration names manifest and destination."""

from __future__ import annotations

import json
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator, TextToSpeechToObjectStorageOperator
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor

MOST = 500
AT_ONCE = 8
"""Submits, so that a herd of them stays below the quota."""
MANIFEST = "{{ dag_run.conf['manifest'] }}"
DESTINATION = "{{ dag_run.conf['destination'] }}"

with DAG("batch", schedule=None) as batch:
    TextToSpeechBatchOperator(task_id="batch", manifest=MANIFEST, destination=DESTINATION)

with DAG("batch_deferred", schedule=None) as batch_deferred:
    TextToSpeechBatchOperator(task_id="batch", manifest=MANIFEST, destination=DESTINATION, deferrable=True)

with DAG("mapped", schedule=None, max_active_tasks=MOST) as mapped:

    @task
    def read_manifest(manifest: str) -> list[dict[str, str]]:
        """Return the arguments of each submit."""
        lines = Path(manifest.removeprefix("file://")).read_text().splitlines()
        return [{"text": line["text"], "voice_id": line["voice_id"]} for line in map(json.loads, lines)]

    submit = TextToSpeechOperator.partial(task_id="submit", max_active_tis_per_dag=AT_ONCE).expand_kwargs(
        read_manifest(MANIFEST)
    )
    wait = TextToSpeechTaskSensor.partial(task_id="wait", deferrable=True, poke_interval=10).expand(
        mps_task_id=submit.output
    )
    store = TextToSpeechToObjectStorageOperator.partial(
        task_id="store", destination=f"{DESTINATION}/", max_active_tis_per_dag=AT_ONCE
    ).expand(mps_task_id=submit.output)
    wait >> store
