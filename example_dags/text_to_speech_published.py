"""
### What comes after a clip: a DAG that runs whenever one has been stored

Nobody triggers it. It is scheduled on the asset alias `text_to_speech_audio`, which the DAG **text_to_speech** updates
with every clip that it stores, wherever that was. The event tells where the clip is, its `VoiceId`, `duration`
(seconds), `size` (bytes) and `crc64`: enough to publish it, to index it, or to check it, without asking MPS again.
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
    """Tell of each clip that was stored since the last run."""

    @task(doc_md="Tells of each new clip; put your own publishing here.")
    def publish(triggering_asset_events: Any = None, triggering_dataset_events: Any = None) -> list[str]:
        told = triggering_asset_events or triggering_dataset_events  # as Airflow 2 calls them
        if not told:
            raise AirflowSkipException("Airflow 3.0 does not tell which clips were stored; 2.11 and 3.1 do.")
        # Airflow 3 tells of each twice: by its asset, and by the alias.
        clips = {event.extra["uri"]: event.extra for events in told.values() for event in events}.values()
        for clip in clips:
            print(f"{clip['uri']} has {clip['size']} bytes and lasts {clip['duration']} seconds")
        return [clip["uri"] for clip in clips]

    publish()


text_to_speech_published()
