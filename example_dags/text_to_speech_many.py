"""
### Many clips: a manifest in, audio and a result manifest out

Press **Trigger** and name a manifest: JSON Lines or CSV, with `id`, `text` or `text_path`, and `voice_id` on each line.
Left as it is, the form leads to a sample that the DAG writes by itself.

- **text_to_speech_batch** does all lines in **one** task, inside the API's quota, and goes on where it was killed.
  First it tells what the manifest would cost, and stops where that is more characters than you allow. Take it from some
  dozens of lines on.
- **text_to_speech_mapped** makes task instances of each line, by dynamic task mapping: each with its own log, retries
  and *Listen* view, and three task starts. Take it for a few lines that people look after one by one. Its manifest is
  JSON Lines, and its audio keeps the names that MPS gives it. Texts are sent as they are: they are not templates.

Both need the connection **`mps_default`** of type *Tencent Cloud MPS*, yours or the emulator's.
"""

from __future__ import annotations

import json
import tempfile
from typing import Any

from airflow.providers.common.compat.sdk import ObjectStoragePath, Param, dag, task

from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator, TextToSpeechToObjectStorageOperator
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor

FOLDER = f"file://{tempfile.gettempdir()}/text_to_speech_many"
SAMPLE = f"{FOLDER}/manifest.jsonl"
PARAMS = {
    "manifest": Param(
        SAMPLE,
        type="string",
        minLength=1,
        title="Manifest",
        description="Any object storage, e.g. s3://aws_default@bucket/manifest.csv. The sample is written if missing.",
    ),
    "destination": Param(
        f"{FOLDER}/clips/",
        type="string",
        minLength=1,
        title="Destination",
        description="The folder for the audio; with a batch also for results.jsonl and summary.json.",
    ),
    "voice_id": Param(
        "s1_+DSBRZuGbfKlwsN1lV5OsriSYvOB3aSqqCsHH0LJ5BWHsmfmn13my4ki/QL+g+7RaRUWLhwPcEI6gtCTkA==",
        type="string",
        minLength=1,
        title="Voice",
        description="VoiceId of lines that have none. The emulator takes any.",
    ),
}
TAGS = ["tencent cloud", "mps", "text to speech"]


@task(doc_md="Returns the manifest's path; writes the sample where that is asked for and missing.")
def find_manifest(params: Any = None) -> str:
    """Make the sample, so that the form works as it is."""
    path = ObjectStoragePath(params["manifest"])
    if str(params["manifest"]) == SAMPLE and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for number in range(1, 6):
            line = {"id": f"chapter-{number}/greeting", "text": f"Welcome to chapter {number}."}
            lines.append(json.dumps(line) + "\n")
        path.write_text("".join(lines))
    return str(params["manifest"])


@dag(
    schedule=None,
    doc_md=__doc__,
    tags=TAGS,
    params={
        **PARAMS,
        "most_characters": Param(
            100_000,
            type="integer",
            minimum=1,
            title="Characters at most",
            description="Nothing is submitted where the manifest has more of them left to pay for.",
        ),
    },
)
def text_to_speech_batch() -> None:
    """Tell what it would cost, then do it in one task."""
    arguments: dict[str, Any] = {
        "manifest": find_manifest(),
        "destination": "{{ params.destination }}",
        "voice_id": "{{ params.voice_id }}",
    }
    estimate = TextToSpeechBatchOperator(
        task_id="estimate",
        dry_run=True,
        doc_md="Reads the manifest and tells lines, characters, the least time and errors by line. It calls nobody.",
        **arguments,
    )

    @task.short_circuit(doc_md="Goes on where the characters are within the limit of the form.")
    def is_within_budget(told: Any, params: Any = None) -> bool:
        print(f"{told['characters']} characters in {told['to_submit']} lines, {told['invalid']} lines are invalid")
        return bool(told["characters"] <= params["most_characters"])

    speak = TextToSpeechBatchOperator(
        task_id="speak",
        deferrable=True,
        on_line_failure="continue",
        retries=3,
        doc_md="Submits, awaits and stores every line. A retry or a clear goes on, and pays for no line again.",
        **arguments,
    )
    is_within_budget(estimate.output) >> speak


@dag(schedule=None, doc_md=__doc__, tags=TAGS, params=PARAMS)
def text_to_speech_mapped() -> None:
    """Make three task instances of each line."""

    @task(doc_md="Returns the arguments of each line's submit.")
    def read(manifest: Any, params: Any = None) -> list[dict[str, Any]]:
        # Not splitlines(), which breaks lines where JSON has none.
        lines = [json.loads(line) for line in ObjectStoragePath(manifest).read_text().split("\n") if line.strip()]
        return [
            {"voice_id": params["voice_id"], **{name: value for name, value in line.items() if name != "id"}}
            for line in lines
        ]

    submit = TextToSpeechOperator.partial(
        task_id="submit",
        # Submits of different tasks share no budget: a herd of them would meet the quota.
        max_active_tis_per_dag=8,
        doc_md="Submits one line, which MPS bills. From Airflow 3.3 on, a retry goes on with what was submitted.",
    ).expand_kwargs(read(find_manifest()))
    wait = TextToSpeechTaskSensor.partial(
        task_id="wait",
        deferrable=True,
        poke_interval=10,
        doc_md="Waits in the triggerer, where all share the API's quota.",
    ).expand(mps_task_id=submit.output)
    store = TextToSpeechToObjectStorageOperator.partial(
        task_id="store",
        destination="{{ params.destination.rstrip('/') }}/",
        max_active_tis_per_dag=8,
        retries=2,
        doc_md="Stores one clip, verified. Hear it under *Listen*.",
    ).expand(mps_task_id=submit.output)
    wait >> store


text_to_speech_batch()
text_to_speech_mapped()
