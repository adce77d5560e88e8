"""Two hundred sensors in each mode, for the tasks that the run's configuration names."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor

WAITING = 200
MODES: dict[str, dict[str, Any]] = {
    "reschedule": {},
    "deferred": {"deferrable": True},
    "without_a_worker": {"start_from_trigger": True, "end_from_trigger": True},
}

for mode, arguments in MODES.items():
    with DAG(mode, schedule=None, max_active_tasks=WAITING) as dag:
        for number in range(WAITING):
            TextToSpeechTaskSensor(
                task_id=f"wait_{number:03}",
                mps_task_id=f"{{{{ dag_run.conf['mps_task_ids'][{number}] }}}}",
                poke_interval=30,
                timeout=3600,
                **arguments,
            )
    globals()[dag.dag_id] = dag
