"""
### One clip: from a text to audio in your object storage

Press **Trigger**, enter a text, and choose a voice and a destination. The DAG submits the text to Tencent Cloud MPS,
waits without occupying a worker, stores the audio, and logs its path. The DAG **text_to_speech_published** runs after
each stored clip.

You need a connection **`mps_default`** of type *Tencent Cloud MPS*. It holds your SecretId and SecretKey, or the keys
that the local emulator (`python -m airflow_provider_mps.emulator`) prints when it starts. To see a failure, submit a
text that starts with `[fail]` to the emulator.
"""

from __future__ import annotations

import tempfile
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import AssetAlias, Param, dag, task

from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator, TextToSpeechToObjectStorageOperator
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor

LANGUAGES = {"zh": "Chinese", "en": "English", "ja": "Japanese", "ko": "Korean"}
SAMPLE_RATES_HZ = [8000, 16000, 22050, 32000, 44100]


def notify_on_call(context: Any) -> None:
    """Log the failure of a task. Replace this with a notifier such as SmtpNotifier or SlackNotifier."""
    # The error of a failed synthesis names the MPS task, its ErrorCode and RequestId, and what to do next.
    print(f"Task {context['ti'].task_id} of {context['run_id']} failed: {context.get('exception')}")


@dag(
    schedule=None,
    doc_md=__doc__,
    default_args={"on_failure_callback": notify_on_call},
    tags=["tencent cloud", "mps", "text to speech"],
    params={
        "text": Param(
            "Hello from Airflow. This clip was spoken by Tencent Cloud, or by its emulator.",
            type="string",
            format="multiline",
            minLength=1,
            maxLength=100_000,
            title="Text",
            description="At most 100,000 characters, which limits what one run can spend. MPS bills the text when it "
            "accepts it.",
        ),
        "voice_id": Param(
            "s1_+DSBRZuGbfKlwsN1lV5OsriSYvOB3aSqqCsHH0LJ5BWHsmfmn13my4ki/QL+g+7RaRUWLhwPcEI6gtCTkA==",
            type="string",
            minLength=1,
            title="Voice",
            description="VoiceId of a system, cloned or designed voice of your MPS account; see 'Get a VoiceId' in "
            "the docs. The emulator accepts any value.",
        ),
        "text_lang": Param(
            "en",
            type=["null", "string"],
            enum=[None, *LANGUAGES],
            values_display={"null": "Not set: the default of your MPS site", **LANGUAGES},
            title="Language of the text",
            description="If it is not set, the default applies: Chinese on Tencent's international site, automatic "
            "detection on the mainland site.",
        ),
        "sample_rate": Param(
            16000,
            type="integer",
            enum=SAMPLE_RATES_HZ,
            values_display={str(rate): f"{rate / 1000:g} kHz" for rate in SAMPLE_RATES_HZ},
            title="Sample rate",
            description="MPS makes 16 kHz by default. A higher rate makes a larger file.",
        ),
        "pitch": Param(
            0,
            type="integer",
            minimum=-12,
            maximum=12,
            title="Pitch",
            description="From -12 (lowest) to 12 (highest). The default is 0.",
        ),
        "destination": Param(
            f"file://{tempfile.gettempdir()}/text_to_speech/",
            type="string",
            minLength=1,
            title="Destination",
            description="A path in object storage, e.g. s3://aws_default@bucket/clips/. A path that ends in / is a "
            "folder. The default, a temporary folder, works only if all tasks run on one machine. Several workers "
            "need object storage (s3://…).",
        ),
    },
)
def text_to_speech() -> None:
    """Submit a text, wait for the audio, store it, and report its path."""
    submit = TextToSpeechOperator(
        task_id="submit",
        text="{{ params.text }}",
        voice_id="{{ params.voice_id }}",
        text_lang="{{ params.text_lang or '' }}",
        sample_rate="{{ params.sample_rate }}",
        pitch="{{ params.pitch }}",
        doc_md="Submits the text, which MPS bills, and returns its `TaskId`. From Airflow 3.3, a retry reconnects to "
        "the same MPS task. A clear does so, too, in Airflow 3.3.2. Before 3.3, a clear submits again, which is billed "
        "again; after 3.3.2, it may.",
    )
    wait = TextToSpeechTaskSensor(
        task_id="wait",
        mps_task_id=submit.output,
        # At least 10 seconds in reschedule mode: Airflow may take 5 seconds to notice the end of an attempt, and fails
        # a task that is queued again before that.
        poke_interval=10,
        timeout=60 * 60,
        doc_md="Polls MPS every 10 seconds, for up to an hour. Occupies no worker between two polls. A clear submits "
        "nothing.",
    )
    store = TextToSpeechToObjectStorageOperator(
        task_id="store",
        mps_task_id=submit.output,
        destination="{{ params.destination }}",
        # A DAG that is scheduled on this alias, such as text_to_speech_published, runs for each clip.
        outlets=[AssetAlias("text_to_speech_audio")],
        retries=2,
        retry_delay=timedelta(seconds=30),
        doc_md="Downloads, verifies and stores the audio, and returns its path. Play it under *Listen*. A clear "
        "submits nothing.",
    )

    @task(doc_md="Logs the path and the duration of the clip.")
    def report(path: str, voice_id: str, duration: float | None) -> None:
        length = "of unknown length" if duration is None else f"{duration:.2f} seconds long"
        print(f"{path} is {length}, spoken by {voice_id}")

    wait >> store >> report(store.output, store.output["VoiceId"], store.output["duration"])


text_to_speech()
