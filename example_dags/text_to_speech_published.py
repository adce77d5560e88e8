"""
### After each clip: a DAG that runs when a clip has been stored

You do not need to trigger this DAG. It is scheduled on the asset alias `text_to_speech_audio`, which the DAG
**text_to_speech** updates with every clip that it stores, in any object storage. The event holds the clip's `uri`, its
`VoiceId`, `duration` (seconds), `size` (bytes) and `crc64`. That is enough to publish, index or check the clip without
another call to MPS.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import AirflowSkipException, AssetAlias, dag, task

CLIPS = AssetAlias("text_to_speech_audio")


@dag(
    schedule=[CLIPS],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    doc_md=__doc__,
    tags=["tencent cloud", "mps", "text to speech"],
)
def text_to_speech_published() -> None:
    """Publish each clip that was stored since the last run."""

    @task(doc_md="Logs each new clip. Put your own publishing code here.")
    def publish(triggering_asset_events: Any = None, triggering_dataset_events: Any = None) -> list[str]:
        events_by_asset = triggering_asset_events or triggering_dataset_events  # the name in Airflow 2
        if not events_by_asset:
            raise AirflowSkipException("Airflow 3.0 does not pass the events that started this run; 2.11 and 3.1 do.")
        # Airflow 3 passes each event twice, under its asset and under the alias.
        clips = {event.extra["uri"]: event.extra for events in events_by_asset.values() for event in events}.values()
        for clip in clips:
            print(f"{clip['uri']} has {clip['size']} bytes and lasts {clip['duration']} seconds")
        return [clip["uri"] for clip in clips]

    publish()


text_to_speech_published()
