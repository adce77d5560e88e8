"""Submits that are killed half way, and batches that wait in the triggerer; for ``test_durable.py``."""

import os
import signal
from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class DyingHook(MpsHook):
    def submit_text_to_speech(self, *arguments):
        super().submit_text_to_speech(*arguments)
        die()


class KilledOnceAccepted(TextToSpeechOperator):
    """Dies in its first try, when MPS has accepted and nobody else knows."""

    def execute(self, context):
        if context["ti"].try_number == 1:
            self.hook = DyingHook(self.mps_conn_id, self.region)
        return super().execute(context)


class KilledWhileWaiting(TextToSpeechOperator):
    """Dies in its first try, when it would begin to wait."""

    def execute(self, context):
        self.first_try = context["ti"].try_number == 1
        return super().execute(context)

    def _wait(self, task_id, interval):
        if self.first_try:
            die()
        super()._wait(task_id, interval)


for name, kind, arguments in (
    ("killed_once_accepted", KilledOnceAccepted, {"retries": 2}),
    ("killed_while_waiting", KilledWhileWaiting, {"retries": 1, "wait_for_completion": True}),
    ("submit_deferred", TextToSpeechOperator, {"wait_for_completion": True, "deferrable": True}),
):
    with DAG(name, schedule=None) as dag:
        kind(
            task_id="submit",
            text="{{ dag_run.conf['text'] }}",
            voice_id="voice-1",
            mps_conn_id="mps_slow",
            poll_interval=1,
            retry_delay=timedelta(seconds=1),
            **arguments,
        )
    globals()[name] = dag

with DAG("batch_deferred", schedule=None) as batch_deferred:
    TextToSpeechBatchOperator(
        task_id="batch",
        manifest="{{ dag_run.conf['manifest'] }}",
        destination="{{ dag_run.conf['destination'] }}",
        mps_conn_id="mps_slow",
        poll_interval=1,
        deferrable=True,
    )
