"""
### A spoken status report, built when the DAG runs

Press **Trigger** and choose a voice. `check_loads` returns the numbers of the night, and `speak_report` makes a text of
them. With `@task.text_to_speech`, the task submits to MPS what its function returns, and waits in the triggerer.
`store` stores the audio. From Airflow 3.3, its asset event has the day as the partition key: a DAG that is scheduled on
the partitions of the asset **text_to_speech_reports** runs once for each day.

You need a connection **`mps_default`** of type *Tencent Cloud MPS*, for your account or for the emulator
(`python -m airflow_provider_mps.emulator`).
"""

from __future__ import annotations

import tempfile
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import Asset, Param, dag, task

from airflow_provider_mps.operators.text_to_speech import TextToSpeechToObjectStorageOperator

REPORTS = Asset("text_to_speech_reports")
DAY = "{{ params.day or dag_run.start_date.strftime('%Y-%m-%d') }}"


@dag(
    schedule=None,
    doc_md=__doc__,
    tags=["tencent cloud", "mps", "text to speech"],
    params={
        "voice_id": Param(
            "s1_+DSBRZuGbfKlwsN1lV5OsriSYvOB3aSqqCsHH0LJ5BWHsmfmn13my4ki/QL+g+7RaRUWLhwPcEI6gtCTkA==",
            type="string",
            minLength=1,
            title="Voice",
            description="VoiceId of a system, cloned or designed voice of your MPS account; see 'Get a VoiceId' in "
            "the docs. The emulator accepts any value.",
        ),
        "day": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Day of the report",
            description="The partition of the report. If it is not set, the day on which the run starts.",
        ),
        "destination": Param(
            f"file://{tempfile.gettempdir()}/text_to_speech_reports/",
            type="string",
            minLength=1,
            title="Destination",
            description="Folder for the reports, e.g. s3://aws_default@bucket/reports/. The default, a temporary "
            "folder, works only if all tasks run on one machine. Several workers need object storage (s3://…).",
        ),
    },
)
def text_to_speech_decorated() -> None:
    """Build a report, speak it, and store the audio under its day."""

    @task(doc_md="Returns made-up numbers. Put a query of your own here.")
    def check_loads() -> dict[str, int]:
        return {"orders": 1204, "invoices": 88, "returns": 0}

    @task.text_to_speech(
        voice_id="{{ params.voice_id }}",
        text_lang="en",
        wait_for_completion=True,
        deferrable=True,
        max_characters=1000,
        retries=2,
        retry_delay=timedelta(seconds=30),
        doc_md="Submits the returned text, which MPS bills, and waits in the triggerer. A retry calls the function "
        "again. From Airflow 3.3, it reconnects to the same MPS task if the text is the same.",
    )
    def speak_report(rows: dict[str, int]) -> dict[str, Any]:
        empty = [name for name, count in rows.items() if count == 0]
        loaded = ", ".join(f"{count} {name}" for name, count in rows.items() if count)
        warning = f" Attention: there were no {' and no '.join(empty)}." if empty else ""
        # A text would do. A dict can also choose how it is spoken.
        return {"text": f"Good morning. Last night, we loaded {loaded}.{warning}", "pitch": -2 if empty else 0}

    TextToSpeechToObjectStorageOperator(
        task_id="store",
        mps_task_id=speak_report(check_loads()),
        destination="{{ params.destination.rstrip('/') }}/" + DAY + ".wav",
        partition_key=DAY,
        outlets=[REPORTS],
        retries=2,
        retry_delay=timedelta(seconds=30),
        doc_md="Downloads, verifies and stores the audio. Play it under *Listen*. A clear submits nothing.",
    )


text_to_speech_decorated()
