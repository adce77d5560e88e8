"""A clip with a partition key, a DAG that runs once for each key, and one without; for ``test_assets.py``."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, task
from airflow.sdk import PartitionedAssetTimetable

from airflow_provider_mps.operators.text_to_speech import TextToSpeechSynthesizeOperator

CLIPS = Asset("clips_by_day")

with DAG("partitioned_clip", schedule=None) as partitioned_clip:
    TextToSpeechSynthesizeOperator(
        task_id="speak",
        text="Good morning.",
        voice_id="voice-1",
        destination="{{ dag_run.conf['destination'] }}",
        partition_key="{{ dag_run.conf['day'] }}",
        outlets=[CLIPS],
    )

with DAG("partitioned_day", schedule=PartitionedAssetTimetable(assets=CLIPS), is_paused_upon_creation=False) as _:

    @task
    def publish(dag_run: Any = None, triggering_asset_events: Any = None) -> dict[str, Any]:
        events = [event for events in triggering_asset_events.values() for event in events]
        return {"day": dag_run.partition_key, "extra": events[0].extra}

    publish()

with DAG("partitioned_never", schedule=[CLIPS], is_paused_upon_creation=False):
    task(lambda: None, task_id="nothing")()
