"""Assemble a track as a task does, in a process of its own."""

from __future__ import annotations

from airflow_provider_mps.operators.track import AssembleTrackOperator
from tests.batching import context


def assemble_alone(results: str, destination: str) -> None:
    AssembleTrackOperator(
        task_id="track", results=results, destination=destination, sample_rate=48_000, subtitles=f"{destination}.srt"
    ).execute(context())
