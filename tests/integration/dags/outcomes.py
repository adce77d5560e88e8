"""Every outcome of the sensor, in every mode and with every flag; for ``test_sensor_outcomes.py``."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor

MODES = {
    "reschedule": {},
    "poke": {"mode": "poke"},
    "deferred": {"deferrable": True},
    "started_in_triggerer": {"start_from_trigger": True},
    "ended_in_triggerer": {"deferrable": True, "end_from_trigger": True},
    "without_a_worker": {"start_from_trigger": True, "end_from_trigger": True},
}
FLAGS = {"plain": {}, "soft_fail": {"soft_fail": True}, "never_fail": {"never_fail": True}}

for mode, arguments in MODES.items():
    for flag, more in FLAGS.items():
        with DAG(f"{mode}_{flag}", schedule=None) as dag:
            for outcome in ("success", "fail", "rejected", "missing", "timeout"):
                TextToSpeechTaskSensor(
                    task_id=outcome,
                    mps_task_id=f"{{{{ dag_run.conf['{outcome}'] }}}}",
                    # The tasks of its emulator never finish.
                    mps_conn_id="mps_slow" if outcome == "timeout" else "mps_default",
                    poke_interval=1,
                    timeout=2 if outcome == "timeout" else 120,
                    retries=1,
                    **arguments,
                    **more,
                )
        globals()[dag.dag_id] = dag
