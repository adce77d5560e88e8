"""
### What comes after a clip: a DAG that runs whenever one has been stored

Nobody triggers it. It is scheduled on the asset alias `text_to_speech_audio`, which the DAG **text_to_speech** updates
with every clip that it stores, wherever that was. The event tells where the clip is, its `VoiceId`, `duration`
(seconds), `size` (bytes) and `crc64`: enough to publish it, to index it, or to check it, without asking MPS again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import chain
from typing import Any

from airflow.providers.common.compat.sdk import AssetAlias, dag, task

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
        if triggering_asset_events:
            events = triggering_asset_events[CLIPS]
        else:  # Airflow 2, which keeps them by URI
            events = chain.from_iterable(triggering_dataset_events.values())
        clips = [event.extra for event in events]
        for clip in clips:
            print(f"{clip['uri']} has {clip['size']} bytes and lasts {clip['duration']} seconds")
        return [clip["uri"] for clip in clips]

    publish()


text_to_speech_published()
