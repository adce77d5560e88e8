"""Every task that reports lineage; for ``test_lineage.py``."""

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator
from airflow_provider_mps.operators.synthesize import TextToSpeechSynthesizeOperator
from airflow_provider_mps.operators.track import AssembleTrackOperator

FOLDER = "{{ dag_run.conf['folder'] }}"
batches = {"manifest": f"file://{FOLDER}/manifest.jsonl", "poll_interval": 0.1, "on_line_failure": "continue"}

with DAG("lineage", schedule=None) as lineage:
    TextToSpeechBatchOperator(task_id="batch", destination=f"file://{FOLDER}/clips/", **batches)
    deferred = TextToSpeechBatchOperator(
        task_id="batch_deferred", destination=f"file://{FOLDER}/deferred/", deferrable=True, **batches
    )
    TextToSpeechBatchOperator(
        task_id="batch_failed",
        destination=f"file://{FOLDER}/failed/",
        **{**batches, "on_line_failure": "fail"},
    )
    AssembleTrackOperator(
        task_id="track",
        results=deferred.output,
        destination=f"file://{FOLDER}/track.wav",
        on_missing="silence",
    )
    TextToSpeechSynthesizeOperator(
        task_id="synthesized", text="In one call.", voice_id="v", destination=f"file://{FOLDER}/short.wav"
    )
