"""
### Voices: list them, or clone one, speak with it and delete it

- **text_to_speech_voices** lists voices. Press **Trigger**, choose filters, and open the log of `list_voices`: a table
  shows the name and the `VoiceId` of each voice. It changes nothing and is not billed as speech.
- **text_to_speech_cloned_voice** clones a voice from a sample, speaks a text with it, stores the clip, and deletes the
  voice. `clone` is a setup and `delete` its teardown, so the voice is deleted even if speaking fails. Tencent may bill
  the clone and the text. Use a voice only with the speaker's consent.

Both need a connection **`mps_default`** of type *Tencent Cloud MPS*, for your account or for the emulator
(`python -m airflow_provider_mps.emulator`).
"""

from __future__ import annotations

import io
import math
import struct
import tempfile
import wave
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import ObjectStoragePath, Param, dag, task

from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator, TextToSpeechToObjectStorageOperator
from airflow_provider_mps.operators.voices import CloneVoiceOperator, DeleteVoiceOperator
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor

FOLDER = f"file://{tempfile.gettempdir()}/text_to_speech_voices"
SAMPLE = f"{FOLDER}/sample.wav"
TAGS = ["tencent cloud", "mps", "text to speech"]
LANGUAGES = {"zh": "Chinese", "en": "English", "ja": "Japanese", "ko": "Korean"}
VOICE_TYPES = {
    "all": "All",
    "system": "Voices of Tencent",
    "clone": "Your cloned voices",
    "design": "Your designed voices",
}
GENDERS = {"male": "Male", "female": "Female", "unknown": "Unknown"}
AGES = {
    "child": "Child",
    "teenager": "Teenager",
    "youth": "Youth",
    "middle_aged": "Middle-aged",
    "senior": "Senior",
    "unknown": "Unknown",
}
ANY = {"null": "Any"}


def format_table(rows: list[list[str]]) -> list[str]:
    """Return the lines of a table; the first row is its header."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]


@dag(
    schedule=None,
    doc_md=__doc__,
    tags=TAGS,
    params={
        "voice_type": Param(
            "all",
            type="string",
            enum=list(VOICE_TYPES),
            values_display=VOICE_TYPES,
            title="Type",
            description="Voices of Tencent, or those that your account has cloned or designed.",
        ),
        "language": Param(
            None,
            type=["null", "string"],
            title="Language",
            description="Only voices of this language, e.g. en. Leave it empty for any language.",
        ),
        "gender": Param(
            None,
            type=["null", "string"],
            enum=[None, *GENDERS],
            values_display={**ANY, **GENDERS},
            title="Gender",
            description="Only voices of this gender.",
        ),
        "age": Param(
            None,
            type=["null", "string"],
            enum=[None, *AGES],
            values_display={**ANY, **AGES},
            title="Age",
            description="Only voices of this age.",
        ),
        "name": Param(
            None,
            type=["null", "string"],
            title="Name",
            description="A part of the name. Leave it empty for any name.",
        ),
    },
)
def text_to_speech_voices() -> None:
    """List the voices that match the form."""

    @task(doc_md="Logs a table of the voices, and returns their ids. Needs the CAM action `mps:DescribeVoices`.")
    def list_voices(params: Any = None) -> list[str]:
        hook = MpsHook()
        voices = hook.list_voices(
            params["voice_type"],
            name=params["name"],
            gender=params["gender"],
            age=params["age"],
            languages=params["language"],
        )
        # Not with print(): Airflow 3 may show the last printed lines in the folded group "Post Execute".
        hook.log.info("%s voices", len(voices))
        rows = [["Name", "VoiceId", "Type", "Gender", "Age", "Languages", "Sample"]]
        for voice in voices:
            # The URL of your own voice is not logged, because it gives access to the audio.
            sample = (voice.audio_url or "") if voice.is_system else ""
            languages = ", ".join(voice.languages)
            rows.append([voice.name, voice.voice_id, voice.category, voice.gender, voice.age, languages, sample])
        for line in format_table(rows):
            hook.log.info("%s", line)
        return [voice.voice_id for voice in voices]

    list_voices()


@dag(
    schedule=None,
    doc_md=__doc__,
    tags=TAGS,
    params={
        "sample": Param(
            SAMPLE,
            type="string",
            minLength=1,
            title="Sample",
            description="10 to 20 seconds of one speaker: a path such as s3://aws_default@bucket/anna.wav, or an "
            "http(s) URL. The default is a tone, which the DAG writes to a temporary folder: it is only for the "
            "emulator, and works only if all tasks run on one machine.",
        ),
        "sample_lang": Param(
            "en",
            type="string",
            enum=list(LANGUAGES),
            values_display=LANGUAGES,
            title="Language of the sample",
            description="MPS assumes Chinese if it is not set.",
        ),
        "name": Param(
            "Airflow example",
            type="string",
            minLength=1,
            maxLength=100,
            title="Name of the voice",
            description="The DAG adds the id of the run. So it never uses or deletes a voice that you already have.",
        ),
        "text": Param(
            "Hello from Airflow. This clip was spoken by a cloned voice.",
            type="string",
            format="multiline",
            minLength=1,
            maxLength=10_000,
            title="Text",
            description="At most 10,000 characters. MPS bills the text when it accepts it.",
        ),
        "text_lang": Param(
            "en",
            type="string",
            enum=list(LANGUAGES),
            values_display=LANGUAGES,
            title="Language of the text",
            description="The language in which the voice speaks.",
        ),
        "destination": Param(
            f"{FOLDER}/clips/",
            type="string",
            minLength=1,
            title="Destination",
            description="Folder for the clip, e.g. s3://aws_default@bucket/clips/. The trial audio of the voice is "
            "stored in its folder trial. The default, a temporary folder, works only if all tasks run on one machine. "
            "Several workers need object storage (s3://…).",
        ),
    },
)
def text_to_speech_cloned_voice() -> None:
    """Clone a voice, speak with it, and delete it."""
    # Each run has a voice of its own. A retry or a clear finds it by this name and does not make another one.
    voice_name = "{{ params.name }} {{ run_id }}"
    folder = "{{ params.destination.rstrip('/') }}/"

    @task(doc_md="Returns the path of the sample. Writes a tone if the form names it and it is missing.")
    def find_sample(params: Any = None) -> str:
        sample = str(params["sample"])
        if sample == SAMPLE and not (path := ObjectStoragePath(sample)).exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            rate, seconds, hertz = 16_000, 10, 220
            levels = (int(12_000 * math.sin(2 * math.pi * hertz * i / rate)) for i in range(rate * seconds))
            wav = io.BytesIO()
            with wave.open(wav, "wb") as audio:
                audio.setparams((1, 2, rate, rate * seconds, "NONE", ""))
                audio.writeframes(b"".join(struct.pack("<h", level) for level in levels))
            path.write_bytes(wav.getvalue())  # at once: another run may look for the file meanwhile
        return sample

    clone = CloneVoiceOperator(
        task_id="clone",
        audio=find_sample(),
        name=voice_name,
        audio_lang="{{ params.sample_lang }}",
        trial_text="This is a trial of the voice.",
        trial_destination=folder + "trial/",
        if_exists="reuse",
        retries=2,
        retry_delay=timedelta(seconds=30),
        doc_md="Clones the voice, stores its trial audio, and returns its `VoiceId`. A retry or a clear finds the "
        "voice by its name. Play the trial under *Listen*.",
    )
    submit = TextToSpeechOperator(
        task_id="submit",
        text="{{ params.text }}",
        voice_name=voice_name,
        text_lang="{{ params.text_lang }}",
        doc_md="Looks up the `VoiceId` of the name, submits the text, which MPS bills, and returns its `TaskId`.",
    )
    wait = TextToSpeechTaskSensor(
        task_id="wait",
        mps_task_id=submit.output,
        poke_interval=10,
        timeout=60 * 60,
        doc_md="Polls MPS every 10 seconds, for up to an hour. Occupies no worker between two polls.",
    )
    store = TextToSpeechToObjectStorageOperator(
        task_id="store",
        mps_task_id=submit.output,
        destination=folder,
        retries=2,
        retry_delay=timedelta(seconds=30),
        doc_md="Downloads, verifies and stores the clip, and returns its path. Play it under *Listen*.",
    )
    delete = DeleteVoiceOperator(
        task_id="delete",
        voice_name=voice_name,  # not the id: after a lost response, the voice can exist although `clone` has failed
        retries=2,
        retry_delay=timedelta(seconds=30),
        doc_md="Deletes the voice, also if speaking failed. If the voice does not exist, there is nothing to do.",
    )
    # `delete` runs after `store`, and also if a task between both has failed.
    clone.as_setup()
    delete.as_teardown(setups=clone)
    clone >> submit >> wait >> store >> delete


text_to_speech_voices()
text_to_speech_cloned_voice()
