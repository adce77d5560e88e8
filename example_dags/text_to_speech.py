"""
### One clip: text in, audio in your object storage

Press **Trigger**, type a text, choose a voice and a place. The DAG submits the text to Tencent Cloud MPS, waits
without holding a worker, stores the verified audio, and logs where it is. The DAG **text_to_speech_published** runs
after each clip.

It needs a connection **`mps_default`** of type *Tencent Cloud MPS*: your SecretId and SecretKey, or the one that the
local emulator (`python -m airflow_provider_mps.emulator`) prints when it starts. A text that begins with `[fail]`
makes the emulator fail, so that you can see how that looks.
"""

from __future__ import annotations

import tempfile
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import AssetAlias, Param, dag, task

from airflow_provider_mps.operators.text_to_speech import (
    TextToSpeechOperator,
    TextToSpeechToObjectStorageOperator,
)
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor

LANGUAGES = {"zh": "Chinese", "en": "English", "ja": "Japanese", "ko": "Korean"}
SAMPLE_RATES = [8000, 16000, 22050, 32000, 44100]


def tell_who_is_on_call(context: Any) -> None:
    """Do what a notifier of Airflow does, such as SmtpNotifier or SlackNotifier, which need an account somewhere."""
    # The error of a failed synthesis tells the MPS task, its ErrorCode and RequestId, and what to do next.
    print(f"{context['ti'].task_id} of {context['run_id']} needs somebody: {context.get('exception')}")


@dag(
    schedule=None,
    doc_md=__doc__,
    default_args={"on_failure_callback": tell_who_is_on_call},
    tags=["tencent cloud", "mps", "text to speech"],
    params={
        "text": Param(
            "Hello from Airflow. This clip was spoken by Tencent Cloud, or by its emulator.",
            type="string",
            format="multiline",
            minLength=1,
            maxLength=100_000,
            title="Text",
            description="What to speak. MPS bills what it accepts.",
        ),
        "voice_id": Param(
            "s1_+DSBRZuGbfKlwsN1lV5OsriSYvOB3aSqqCsHH0LJ5BWHsmfmn13my4ki/QL+g+7RaRUWLhwPcEI6gtCTkA==",
            type="string",
            minLength=1,
            title="Voice",
            description="VoiceId of one of your voices. The emulator takes any.",
        ),
        "text_lang": Param(
            None,
            type=["null", "string"],
            enum=[None, *LANGUAGES],
            values_display={"null": "MPS decides", **LANGUAGES},
            title="Language of the text",
            description="MPS decides where none is chosen.",
        ),
        "sample_rate": Param(
            16000,
            type="integer",
            enum=SAMPLE_RATES,
            values_display={str(rate): f"{rate / 1000:g} kHz" for rate in SAMPLE_RATES},
            title="Sample rate",
            description="A higher one makes a larger file.",
        ),
        "pitch": Param(
            0,
            type="integer",
            minimum=-12,
            maximum=12,
            title="Pitch",
            description="From -12, the lowest, to 12.",
        ),
        "destination": Param(
            f"file://{tempfile.gettempdir()}/text_to_speech/",
            type="string",
            minLength=1,
            title="Destination",
            description="Any object storage, e.g. s3://aws_default@bucket/clips/. It is a folder when it ends in /.",
        ),
    },
)
def text_to_speech() -> None:
    """Submit, wait, store, tell."""
    submit = TextToSpeechOperator(
        task_id="submit",
        text="{{ params.text }}",
        voice_id="{{ params.voice_id }}",
        text_lang="{{ params.text_lang or '' }}",
        ext_param='{"synExt": {"sampleRate": {{ params.sample_rate }}, "pitch": {{ params.pitch }}}}',
        doc_md="Submits the text, which MPS bills, and returns its `TaskId`. Clearing it goes on with the same task of "
        "MPS where nothing has changed; before Airflow 3.3 it submits, and pays, anew.",
    )
    wait = TextToSpeechTaskSensor(
        task_id="wait",
        mps_task_id=submit.output,
        # Less than about 10 seconds is too little for rescheduling: Airflow may take 5 to see that a try has ended, and
        # fails a task that is queued again before that.
        poke_interval=10,
        timeout=60 * 60,
        doc_md="Asks MPS every ten seconds, and holds no worker in between. Clearing it costs nothing.",
    )
    store = TextToSpeechToObjectStorageOperator(
        task_id="store",
        mps_task_id=submit.output,
        destination="{{ params.destination }}",
        # What is scheduled on this alias, as the DAG text_to_speech_published is, runs for each clip.
        outlets=[AssetAlias("text_to_speech_audio")],
        retries=2,
        retry_delay=timedelta(seconds=30),
        doc_md="Stores the audio, verified, and returns its path. Hear it under *Listen*. Clearing it costs nothing.",
    )

    @task(doc_md="Says in its log where the clip is and how long it lasts.")
    def tell(path: str, voice_id: str, duration: float | None) -> None:
        length = "of unknown length" if duration is None else f"{duration:.2f} seconds long"
        print(f"{path} is {length}, spoken by {voice_id}")

    wait >> store >> tell(store.output, store.output["VoiceId"], store.output["duration"])


text_to_speech()
