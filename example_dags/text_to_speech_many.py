"""
### Many clips: from a manifest to audio and a result manifest

Press **Trigger** and enter the path of a manifest: JSON Lines or CSV, with `id`, `text` or `text_path`, `voice_id`
and `text_lang` on each line. If you keep the default, the DAG writes and uses a sample manifest. The default paths are
in a temporary folder, which works only if all tasks run on one machine. Several workers need object storage
(`s3://…`).

- **text_to_speech_batch** processes all lines in **one** task, within the API's quota. A retry or a clear resumes it.
  It first counts the characters to submit, and submits nothing if they exceed your limit. Use it for dozens of lines or
  more.
- **text_to_speech_mapped** runs three task instances for each line, by dynamic task mapping. Each line has its own log,
  retries and *Listen* view. Use it for a few lines. Its manifest must be JSON Lines, and the files get the names that
  MPS gave the audio. Airflow does not render the texts as templates.

Both need a connection **`mps_default`** of type *Tencent Cloud MPS*, for your account or for the emulator.
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
        description="A path in object storage, e.g. s3://aws_default@bucket/manifest.jsonl. The default is a sample, "
        "which the DAG writes to a temporary folder: it works only if all tasks run on one machine.",
    ),
    "destination": Param(
        f"{FOLDER}/clips/",
        type="string",
        minLength=1,
        title="Destination",
        description="Folder for the audio, e.g. s3://aws_default@bucket/clips/. A batch also writes results.jsonl and "
        "summary.json there. The default, a temporary folder, works only if all tasks run on one machine. Several "
        "workers need object storage (s3://…).",
    ),
    "voice_id": Param(
        "s1_+DSBRZuGbfKlwsN1lV5OsriSYvOB3aSqqCsHH0LJ5BWHsmfmn13my4ki/QL+g+7RaRUWLhwPcEI6gtCTkA==",
        type="string",
        minLength=1,
        title="Voice",
        description="VoiceId for lines that have none: a system, cloned or designed voice of your MPS account; see "
        "'Get a VoiceId' in the docs. The emulator accepts any value.",
    ),
}
TAGS = ["tencent cloud", "mps", "text to speech"]


@task(doc_md="Returns the path of the manifest. Writes the sample manifest if the form names it and it is missing.")
def find_manifest(params: Any = None) -> str:
    """Return the path of the manifest, and write the sample so that the default works."""
    path = ObjectStoragePath(params["manifest"])
    if str(params["manifest"]) == SAMPLE and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for number in range(1, 6):
            line = {"id": f"chapter-{number}/greeting", "text": f"Welcome to chapter {number}.", "text_lang": "en"}
            lines.append(json.dumps(line) + "\n")
        path.write_text("".join(lines))
    return str(params["manifest"])


@dag(
    schedule=None,
    doc_md=__doc__,
    tags=TAGS,
    params={
        **PARAMS,
        "max_characters": Param(
            100_000,
            type="integer",
            minimum=1,
            title="Character limit",
            description="The most characters that one run may submit. If more are left, it submits none.",
        ),
    },
)
def text_to_speech_batch() -> None:
    """Process the manifest in one task, unless it is over the character limit."""
    manifest: Any = find_manifest()
    TextToSpeechBatchOperator(
        task_id="speak",
        manifest=manifest,
        destination="{{ params.destination }}",
        voice_id="{{ params.voice_id }}",
        max_total_characters="{{ params.max_characters }}",
        deferrable=True,
        on_line_failure="continue",
        retries=3,
        doc_md="Submits, waits for and stores every line, or nothing if more characters than the form's limit are "
        "left. A retry or a clear continues with the records in the destination. It does not submit a line again if "
        "its outcome is unknown.",
    )


@dag(schedule=None, doc_md=__doc__, tags=TAGS, params=PARAMS)
def text_to_speech_mapped() -> None:
    """Run three task instances for each line."""

    @task(doc_md="Returns the arguments of `submit` for each line of the manifest.")
    def read_manifest(manifest: Any, params: Any = None) -> list[dict[str, Any]]:
        # Not splitlines(), which also splits at characters that JSON allows inside a line.
        lines = [json.loads(line) for line in ObjectStoragePath(manifest).read_text().split("\n") if line.strip()]
        return [
            {"voice_id": params["voice_id"], **{name: value for name, value in line.items() if name != "id"}}
            for line in lines
        ]

    submit = TextToSpeechOperator.partial(
        task_id="submit",
        # Task instances do not share a rate limiter: too many at once would exceed the quota.
        max_active_tis_per_dag=8,
        doc_md="Submits one line, which MPS bills. From Airflow 3.3, a retry reconnects to the same MPS task.",
    ).expand_kwargs(read_manifest(find_manifest()))
    wait = TextToSpeechTaskSensor.partial(
        task_id="wait",
        deferrable=True,
        poke_interval=10,
        doc_md="Waits in the triggerer, which polls all waiting tasks within one rate limit.",
    ).expand(mps_task_id=submit.output)
    store = TextToSpeechToObjectStorageOperator.partial(
        task_id="store",
        destination="{{ params.destination.rstrip('/') }}/",
        max_active_tis_per_dag=8,
        retries=2,
        doc_md="Downloads, verifies and stores one clip. Play it under *Listen*.",
    ).expand(mps_task_id=submit.output)
    wait >> store


text_to_speech_batch()
text_to_speech_mapped()
