"""Voices that are made, used and deleted; for ``test_voices.py``."""

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_mps.operators.text_to_speech import (
    TextToSpeechOperator,
    TextToSpeechToObjectStorageOperator,
)
from airflow_provider_mps.operators.voices import CloneVoiceOperator, DeleteVoiceOperator, DesignVoiceOperator

DEFAULTS = {"retries": 1, "retry_delay": timedelta(0)}


def add_use_and_deletion(make):
    """Speak with the voice that a task makes, store the audio, and delete the voice in any case."""
    submit = TextToSpeechOperator(
        task_id="speak", text="Hello", voice_id=make.output, wait_for_completion=True, poll_interval=1
    )
    store = TextToSpeechToObjectStorageOperator(
        task_id="store", mps_task_id=submit.output, destination="{{ dag_run.conf['folder'] }}/speech.wav"
    )
    delete = DeleteVoiceOperator(task_id="delete", voice_id=make.output)
    make >> submit >> store >> delete.as_teardown(setups=make)


with DAG("voice_cloned", schedule=None, default_args=DEFAULTS) as voice_cloned:
    add_use_and_deletion(
        CloneVoiceOperator(
            task_id="make",
            audio="{{ dag_run.conf['audio'] }}",
            name="{{ dag_run.conf['name'] }}",
            languages=["en"],
            trial_text="This is a trial.",
            trial_destination="{{ dag_run.conf['folder'] }}/trial.wav",
            if_exists="create",
        )
    )

for name, arguments in {"in_worker": {}, "deferred": {"deferrable": True}}.items():
    with DAG(f"voice_designed_{name}", schedule=None, default_args=DEFAULTS) as dag:
        add_use_and_deletion(
            DesignVoiceOperator(
                task_id="make",
                prompt="{{ dag_run.conf['prompt'] }}",
                name="{{ dag_run.conf['name'] }}",
                trial_text="This is a trial.",
                trial_destination="{{ dag_run.conf['folder'] }}/trial.wav",
                if_exists="fail",
                poll_interval=1,
                **arguments,
            )
        )
    globals()[dag.dag_id] = dag
