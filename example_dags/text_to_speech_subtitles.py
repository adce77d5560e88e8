"""
### Subtitles: from a subtitle file to one track, and a short text in one call

- **text_to_speech_subtitles** speaks subtitles. Press **Trigger**, paste SRT or WebVTT into the form or enter the path
  of a file, and choose a voice. `speak` makes one clip for each cue, and `assemble` puts the clips at the times of the
  cues into one track. Play it under **Listen** of `assemble`. Beside it, the DAG writes subtitles with the times of the
  audio. If you edit a cue and trigger again with the same destination, MPS speaks only that cue again.
- **text_to_speech_notification** speaks a short text as an MP3, with one call and one task.

Both need a connection **`mps_default`** of type *Tencent Cloud MPS*, for your account or for the emulator
(`python -m airflow_provider_mps.emulator`). Workers need the package's extras `subtitles` and `track`.
"""

from __future__ import annotations

import tempfile
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import ObjectStoragePath, Param, dag, task

from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator
from airflow_provider_mps.operators.text_to_speech import TextToSpeechSynthesizeOperator
from airflow_provider_mps.operators.track import AssembleTrackOperator

FOLDER = f"file://{tempfile.gettempdir()}/text_to_speech_subtitles"
SUBTITLES = """\
1
00:00:00,500 --> 00:00:02,500
Good morning, and welcome.

2
00:00:03,000 --> 00:00:06,000
These words come from subtitles.

3
00:00:06,500 --> 00:00:09,000
<i>Each cue becomes a clip,</i>

4
00:00:09,500 --> 00:00:12,500
and all clips become one track.
"""
LANGUAGES = {"zh": "Chinese", "en": "English", "ja": "Japanese", "ko": "Korean"}
FORMATS = {"wav": "WAV", "flac": "FLAC", "mp3": "MP3"}
TAGS = ["tencent cloud", "mps", "text to speech"]
VOICE = Param(
    "s1_+DSBRZuGbfKlwsN1lV5OsriSYvOB3aSqqCsHH0LJ5BWHsmfmn13my4ki/QL+g+7RaRUWLhwPcEI6gtCTkA==",
    type="string",
    minLength=1,
    title="Voice",
    description="VoiceId of a system, cloned or designed voice of your MPS account; see 'Get a VoiceId' in the docs. "
    "The emulator accepts any value.",
)


def make_language_param(title: str, description: str) -> Param:
    """Return a field of the form that chooses a language."""
    return Param(
        "en", type="string", enum=list(LANGUAGES), values_display=LANGUAGES, title=title, description=description
    )


@dag(
    schedule=None,
    doc_md=__doc__,
    max_active_runs=1,  # two runs with one destination would overwrite each other's subtitles
    tags=TAGS,
    params={
        "subtitles": Param(
            SUBTITLES,
            type="string",
            format="multiline",
            minLength=1,
            maxLength=100_000,
            title="Subtitles",
            description="SRT or WebVTT, at most 100,000 characters. MPS bills the text of each cue when it accepts it.",
        ),
        "subtitles_path": Param(
            None,
            type=["null", "string"],
            title="Path of a subtitle file",
            description="An .srt or .vtt file, e.g. s3://aws_default@bucket/film.srt. If it is set, the field above is "
            "ignored.",
        ),
        "voice_id": VOICE,
        "text_lang": make_language_param("Language of the subtitles", "The language in which the cues are written."),
        "translate_to": Param(
            None,
            type=["null", "string"],
            enum=[None, *LANGUAGES],
            values_display={"null": "Do not translate", **LANGUAGES},
            title="Translate to",
            description="MPS translates each cue into this language before it speaks it. The written subtitles keep "
            "the original text.",
        ),
        "fit_to_cues": Param(
            default=False,
            type="boolean",
            title="Fit to the cues",
            description="Ask MPS to make each clip as long as its cue. Otherwise, each clip has its natural length, "
            "and a clip starts later if the one before has not ended.",
        ),
        "format": Param(
            "wav",
            type="string",
            enum=list(FORMATS),
            values_display=FORMATS,
            title="Format of the track",
            description="WAV needs 115 MB per hour at 16 kHz. FLAC is smaller without a loss, and MP3 is the smallest.",
        ),
        "destination": Param(
            f"{FOLDER}/film/",
            type="string",
            minLength=1,
            title="Destination",
            description="Folder for the track, its subtitles and the clips, e.g. s3://aws_default@bucket/film/. The "
            "default, a temporary folder, works only if all tasks run on one machine. Several workers need object "
            "storage (s3://…).",
        ),
    },
)
def text_to_speech_subtitles() -> None:
    """Speak each cue, assemble one track from the clips, and report where it is."""
    folder = "{{ params.destination.rstrip('/') }}/"

    @task(doc_md="Returns the path of the subtitles. If none is set, writes the form's text to the destination.")
    def find_subtitles(params: Any = None) -> str:
        if params["subtitles_path"]:
            return str(params["subtitles_path"])
        # The batch recognizes the format by the name.
        text = str(params["subtitles"])
        suffix = "vtt" if text.lstrip("\ufeff").startswith("WEBVTT") else "srt"
        path = ObjectStoragePath(f"{params['destination'].rstrip('/')}/subtitles.{suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        return str(path)

    subtitles = find_subtitles()
    speak = TextToSpeechBatchOperator(
        task_id="speak",
        manifest=subtitles,
        destination=folder + "clips/",
        voice_id="{{ params.voice_id }}",
        text_lang="{{ params.text_lang }}",
        translate_to="{{ params.translate_to or '' }}",
        fit_to_cues="{{ params.fit_to_cues }}",
        deferrable=True,
        retries=3,
        doc_md="Makes one clip for each cue. A retry or a clear continues with the records in the destination. It does "
        "not submit a cue again if its outcome is unknown.",
    )
    assemble = AssembleTrackOperator(
        task_id="assemble",
        results=speak.output,
        destination=folder + "track.{{ params.format }}",
        subtitles=folder + "track.srt",
        retries=2,
        retry_delay=timedelta(seconds=30),
        doc_md="Puts the clips at the times of their cues, and writes the track and its subtitles. Does not call MPS. "
        "Play the track under *Listen*.",
    )

    @task(doc_md="Logs the paths of the track and its subtitles.")
    def report(track: str, duration: float, subtitles: str) -> None:
        print(f"{track} is {duration:.2f} seconds long; its subtitles are {subtitles}")

    report(assemble.output, assemble.output["duration"], assemble.output["subtitles"])


@dag(
    schedule=None,
    doc_md=__doc__,
    tags=TAGS,
    params={
        "text": Param(
            "The nightly load has finished.",
            type="string",
            minLength=1,
            maxLength=500,
            title="Text",
            description="At most 500 characters. MPS bills the text when it has spoken it.",
        ),
        "voice_id": VOICE,
        "text_lang": make_language_param("Language of the text", "The language in which the voice speaks."),
        "destination": Param(
            f"{FOLDER}/notification.mp3",
            type="string",
            minLength=1,
            title="Destination",
            description="Path of the MP3, e.g. s3://aws_default@bucket/notification.mp3. The default, a temporary "
            "folder, works only if all tasks run on one machine. Several workers need object storage (s3://…).",
        ),
    },
)
def text_to_speech_notification() -> None:
    """Speak a short text with one call, and store it as an MP3."""
    TextToSpeechSynthesizeOperator(
        task_id="speak",
        text="{{ params.text }}",
        voice_id="{{ params.voice_id }}",
        text_lang="{{ params.text_lang }}",
        audio_format="mp3",
        sample_rate=24000,
        destination="{{ params.destination }}",
        doc_md="Lets MPS speak the text, which is billed, stores the MP3 and returns its path. From Airflow 3.3, a "
        "retry stores the audio that MPS has already made. Play it under *Listen*.",
    )


text_to_speech_subtitles()
text_to_speech_notification()
