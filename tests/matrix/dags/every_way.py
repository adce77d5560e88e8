"""Everything the provider does, in every way that each version of Airflow has for it, as the tasks of one run."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, AirflowException, Asset, AssetAlias, task

from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator
from airflow_provider_mps.operators.synthesize import TextToSpeechSynthesizeOperator
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator, TextToSpeechToObjectStorageOperator
from airflow_provider_mps.operators.track import AssembleTrackOperator
from airflow_provider_mps.operators.voices import CloneVoiceOperator, DeleteVoiceOperator, DesignVoiceOperator
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor

FOLDER = "{{ dag_run.conf['folder'] }}"
S3 = "{{ dag_run.conf['s3'] }}"


class BrokenOnce(TextToSpeechOperator):
    """Fails its first try, after having submitted, and notes which task each try had."""

    template_fields = (*TextToSpeechOperator.template_fields, "notes")

    def __init__(self, *, notes: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.notes = notes

    def execute(self, context) -> str:
        task_id = super().execute(context)
        with Path(self.notes).open("a") as notes:
            notes.write(f"{task_id}\n")
        if context["ti"].try_number == 1:
            raise AirflowException("the first try is broken")
        return task_id


class Noted(TextToSpeechOperator):
    """Notes the text that it submits."""

    template_fields = (*TextToSpeechOperator.template_fields, "notes")

    def __init__(self, *, notes: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.notes = notes

    def execute(self, context) -> str:
        Path(self.notes).write_text(self.text)
        return super().execute(context)


class WaitingSensor(TextToSpeechTaskSensor):
    """Polls a new MPS task first, so that the first poll is never too late to see it processing, and notes its id."""

    template_fields = (*TextToSpeechTaskSensor.template_fields, "notes", "text")

    def __init__(self, *, notes: str, text: str = "Hello from every version.", **kwargs) -> None:
        super().__init__(**kwargs)
        self.notes = notes
        self.text = text

    def execute(self, context):
        notes = Path(self.notes)
        if notes.exists():  # rescheduled
            self.mps_task_id = notes.read_text()
        else:
            self.mps_task_id = self.hook.submit_text_to_speech(self.text, "voice-1")
            notes.write_text(self.mps_task_id)
        return super().execute(context)


with DAG("every_way", schedule=None, start_date=datetime(2026, 1, 1), default_args={"voice_id": "voice-1"}) as dag:
    submit = TextToSpeechOperator(task_id="submit", text="Hello from every version.")
    waits = {"mps_task_id": submit.output, "poke_interval": 1, "timeout": 600}
    notes = f"{FOLDER}/{{{{ task.task_id }}}}.txt"
    # Long enough for Airflow to read of the end of the first process before it starts the second.
    rescheduled = WaitingSensor(task_id="rescheduled", notes=notes, **{**waits, "poke_interval": 10})
    poked = TextToSpeechTaskSensor(task_id="poked", mode="poke", **waits)
    # Long enough for its trigger to report that it waits.
    deferred = WaitingSensor(task_id="deferred", deferrable=True, notes=notes, **{**waits, "poke_interval": 10})
    WaitingSensor(task_id="ended_from_trigger", end_from_trigger=True, notes=notes, **waits)

    @task
    def read() -> list[dict[str, str]]:
        return [{"text": "{{ conn.mps_default.password }}"}]

    Noted.partial(task_id="mapped", notes=f"{FOLDER}/mapped.txt").expand_kwargs(read())

    TextToSpeechOperator(task_id="waited", text="In a worker.", wait_for_completion=True, poll_interval=1)
    TextToSpeechOperator(
        task_id="waited_deferred", text="Deferred.", wait_for_completion=True, deferrable=True, poll_interval=1
    )

    @task.text_to_speech(wait_for_completion=True, deferrable=True, poll_interval=1)
    def decorated(name: str) -> dict[str, str]:
        print("The function was called")  # noqa: T201 - the test counts it
        return {"text": f"{name} {{{{ broken", "voice_id": "voice-2"}

    spoken = decorated("Decorated")
    decorated.override(task_id="decorated_submit", wait_for_completion=False, deferrable=False)("Only submitted")
    TextToSpeechToObjectStorageOperator(
        task_id="stored_decorated", mps_task_id=spoken, destination=f"file://{FOLDER}/decorated.wav"
    )
    BrokenOnce(
        task_id="broken_once",
        text="Once.",
        notes=f"{FOLDER}/attempts.txt",
        retries=1,
        retry_delay=timedelta(seconds=0),
    )

    stored = TextToSpeechToObjectStorageOperator(
        task_id="stored",
        mps_task_id=submit.output,
        destination=f"file://{FOLDER}/clips/",
        outlets=[AssetAlias("text_to_speech_audio")],  # which the example text_to_speech_published follows
    )
    stored_in_s3 = TextToSpeechToObjectStorageOperator(
        task_id="stored_in_s3",
        mps_task_id=submit.output,
        destination=f"{S3}clip.wav",
        outlets=[AssetAlias("every way")],
    )
    stored_again = TextToSpeechToObjectStorageOperator(
        task_id="stored_again",
        mps_task_id=submit.output,
        destination=f"{S3}clip.wav",
        if_exists="skip",
    )
    [rescheduled, poked, deferred] >> stored >> stored_in_s3 >> stored_again

    batches = {"manifest": f"file://{FOLDER}/manifest.jsonl", "poll_interval": 1}
    folder = f"file://{FOLDER}/batch/"
    dry_run = TextToSpeechBatchOperator(task_id="dry_run", destination=folder, dry_run=True, **batches)
    estimated = "{{ ti.xcom_pull(task_ids='dry_run')['characters'] }}"
    dry_run >> TextToSpeechBatchOperator(
        task_id="batch", destination=folder, max_total_characters=estimated, price_per_1000_characters=0.5, **batches
    )
    TextToSpeechBatchOperator(
        task_id="batch_deferred", destination=f"{S3}batch/", deferrable=True, max_total_characters="1000", **batches
    )

    TextToSpeechSynthesizeOperator(
        task_id="synthesized",
        text="In one call.",
        audio_format="mp3",
        sample_rate=24000,
        destination=f"file://{FOLDER}/short/short.mp3",
        partition_key="every-way",
        outlets=[Asset("every_way_clips")],
    )
    dubbed = TextToSpeechBatchOperator(
        task_id="dubbed",
        manifest=f"file://{FOLDER}/film.srt",
        destination=f"{S3}dubbed/",
        poll_interval=1,
    )
    AssembleTrackOperator(
        task_id="track",
        results=dubbed.output,
        destination=f"{S3}track.flac",
        subtitles=f"{S3}track.vtt",
        outlets=[AssetAlias("tracks")],
    )

    cloned = CloneVoiceOperator(
        task_id="cloned",
        audio=f"file://{FOLDER}/sample.wav",
        name="Every way",
        trial_text="A trial.",
        trial_destination=f"file://{FOLDER}/trial/",
    )
    by_name = TextToSpeechOperator(task_id="by_name", text="By its name.", voice_id=None, voice_name="Every way")
    deleted = DeleteVoiceOperator(task_id="deleted", voice_id=None, voice_name="Every way")
    cloned.as_setup()
    deleted.as_teardown(setups=cloned)
    cloned >> by_name >> deleted
    designs = {"prompt": "A deep voice.", "poll_interval": 1}
    DesignVoiceOperator(task_id="designed", name="In a worker", **designs)
    DesignVoiceOperator(task_id="designed_deferred", name="Deferred", deferrable=True, **designs)

    broken = TextToSpeechOperator(task_id="broken", text="[fail] There is no audio of it.")
    fails = {"mps_task_id": broken.output, "poke_interval": 1, "timeout": 600, "retries": 2}
    fails["retry_delay"] = timedelta(seconds=0)
    TextToSpeechTaskSensor(task_id="failed", **fails)
    WaitingSensor(task_id="failed_deferred", deferrable=True, notes=notes, text="[fail] Nor of it.", **fails)
    TextToSpeechTaskSensor(task_id="skipped", soft_fail=True, **fails)
