"""
### A batch that a human approves before it is billed

Press **Trigger** and enter the path of a manifest: JSON Lines or CSV, with `id`, `text` or `text_path`, `voice_id` and
`text_lang` on each line. If you keep the default, the DAG writes and uses a sample manifest.

1. `estimate` counts lines and characters by voice, and their cost at your price. It does not call MPS.
2. `approve` shows this estimate, and waits for **Approve** or **Reject** under *Required Action*. It needs Airflow 3.1
   or later. Before, it compares the characters with the form's limit.
3. `speak` submits and stores the lines. No attempt submits more characters than the estimate had, even if the manifest
   has changed since. A rejection skips it.

The default paths are in a temporary folder, which works only if all tasks run on one machine. Several workers need
object storage (`s3://…`). The DAG needs a connection **`mps_default`** of type *Tencent Cloud MPS*, for your account
or for the emulator.
"""

from __future__ import annotations

import json
import tempfile
from typing import Any

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import ObjectStoragePath, Param, dag, task
from packaging.version import Version

from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator

HAS_APPROVAL = Version(Version(airflow_version).base_version) >= Version("3.1")
if HAS_APPROVAL:
    from airflow.providers.standard.operators.hitl import ApprovalOperator

FOLDER = f"file://{tempfile.gettempdir()}/text_to_speech_approval"
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
        description="Folder for the audio, e.g. s3://aws_default@bucket/clips/. The default, a temporary folder, works "
        "only if all tasks run on one machine. Several workers need object storage (s3://…).",
    ),
    "voice_id": Param(
        "s1_+DSBRZuGbfKlwsN1lV5OsriSYvOB3aSqqCsHH0LJ5BWHsmfmn13my4ki/QL+g+7RaRUWLhwPcEI6gtCTkA==",
        type="string",
        minLength=1,
        title="Voice",
        description="VoiceId for lines that have none: a system, cloned or designed voice of your MPS account; see "
        "'Get a VoiceId' in the docs. The emulator accepts any value.",
    ),
    "price": Param(
        None,
        type=["null", "number"],
        minimum=0,
        title="Price of 1,000 characters",
        description="From Tencent's price list, in your currency. Without it, the estimate has no cost.",
    ),
}
if not HAS_APPROVAL:
    PARAMS["max_characters"] = Param(
        100_000,
        type="integer",
        minimum=1,
        title="Character limit",
        description="The most characters that one run may submit. If more are left, it submits none.",
    )


@dag(schedule=None, doc_md=__doc__, tags=["tencent cloud", "mps", "text to speech"], params=PARAMS, max_active_runs=1)
def text_to_speech_approval() -> None:
    """Estimate a batch, ask a human, and submit no more than that."""

    @task(doc_md="Returns the path of the manifest. Writes the sample if the form names it and it is missing.")
    def find_manifest(params: Any = None) -> str:
        path = ObjectStoragePath(params["manifest"])
        if str(params["manifest"]) == SAMPLE and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [
                {"id": "welcome", "text": "Welcome to the museum.", "text_lang": "en"},
                {"id": "hours", "text": "It is open from nine to five.", "text_lang": "en"},
                {"id": "guide", "text": "Ask for our audio guide.", "text_lang": "en", "voice_id": "guide-voice"},
            ]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return str(params["manifest"])

    arguments: dict[str, Any] = {
        "manifest": find_manifest(),
        "destination": "{{ params.destination }}",
        "voice_id": "{{ params.voice_id }}",
        "price_per_1000_characters": "{{ '' if params.price is none else params.price }}",
    }
    estimate = TextToSpeechBatchOperator(
        task_id="estimate",
        dry_run=True,
        doc_md="Reports lines, characters and cost by voice, and errors. Does not call MPS.",
        **arguments,
    )
    speak = TextToSpeechBatchOperator(
        task_id="speak",
        # What was approved, and no more: the manifest may change while the DAG waits for the answer.
        max_total_characters="{{ ti.xcom_pull(task_ids='estimate')['characters'] }}",
        deferrable=True,
        retries=3,
        doc_md="Submits, waits for and stores every line. A retry or a clear continues with the records in the "
        "destination.",
        **arguments,
    )
    if HAS_APPROVAL:
        approve: Any = ApprovalOperator(
            task_id="approve",
            subject="Speak {{ ti.xcom_pull(task_ids='estimate')['to_submit'] }} lines with "
            "{{ ti.xcom_pull(task_ids='estimate')['characters'] }} characters?",
            body="`{{ params.manifest }}`\n\n{{ ti.xcom_pull(task_ids='estimate', key='progress') }}",
            doc_md="Waits until a human approves the estimate, which MPS then bills. A rejection skips `speak`.",
        )
    else:

        @task.short_circuit(task_id="approve", doc_md="Skips `speak` if the estimate is over the form's limit.")
        def check_limit(report: Any, params: Any = None) -> bool:
            return bool(report["characters"] <= params["max_characters"])

        approve = check_limit(estimate.output)
    estimate >> approve >> speak


text_to_speech_approval()
