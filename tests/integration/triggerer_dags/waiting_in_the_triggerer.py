"""Sensors that a running Airflow waits with, for the tasks that the run's configuration names."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor

MANY = 50
MODES = {
    "deferred": {"deferrable": True},
    "started_in_triggerer": {"start_from_trigger": True},
    "ended_in_triggerer": {"deferrable": True, "end_from_trigger": True},
    "without_a_worker": {"start_from_trigger": True, "end_from_trigger": True},
}
FLAGS = {"plain": {}, "soft_fail": {"soft_fail": True}, "never_fail": {"never_fail": True}}


def sensor(task_id: str, mps_task_id: str, **arguments) -> TextToSpeechTaskSensor:
    return TextToSpeechTaskSensor(
        task_id=task_id, mps_task_id=mps_task_id, **{"poke_interval": 2, "timeout": 120, "retries": 1, **arguments}
    )


for mode, arguments in MODES.items():
    for flag, more in FLAGS.items():
        with DAG(f"{mode}_{flag}", schedule=None) as dag:
            for outcome in ("success", "fail", "missing"):
                sensor(outcome, f"{{{{ dag_run.conf['{outcome}'] }}}}", **arguments, **more)
            sensor("timeout", "{{ dag_run.conf['timeout'] }}", **{**arguments, **more, "timeout": 4})
        globals()[dag.dag_id] = dag

    with DAG(f"{mode}_pipeline", schedule=None) as dag:
        submit = TextToSpeechOperator(task_id="submit", text="hello", voice_id="voice-1")
        wait = sensor("wait", submit.output, **arguments)

        @task
        def tell(waited: dict) -> str:
            return waited["VoiceId"]

        tell(wait.output)
    globals()[dag.dag_id] = dag

    with DAG(f"{mode}_mapped", schedule=None) as dag:
        TextToSpeechTaskSensor.partial(task_id="wait", poke_interval=2, timeout=120, **arguments).expand(
            mps_task_id=TextToSpeechOperator.partial(task_id="submit", voice_id="voice-1")
            .expand(text=["one", "two"])
            .output
        )
    globals()[dag.dag_id] = dag

with DAG("many", schedule=None, max_active_tasks=2 * MANY) as many:
    for number in range(MANY):
        sensor(f"wait_{number:02}", f"{{{{ dag_run.conf['mps_task_ids'][{number}] }}}}", start_from_trigger=True)

with DAG("two_connections", schedule=None) as two_connections:
    for name in ("mps_default", "mps_other"):
        sensor(name, f"{{{{ dag_run.conf['{name}'] }}}}", mps_conn_id=name, start_from_trigger=True)
