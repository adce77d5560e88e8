"""Submits that are killed, and a batch that waits in the triggerer; for ``test_durable.py``."""

import os
import signal
from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator


def kill_worker():
    os.kill(os.getpid(), signal.SIGKILL)


class KilledAfterSubmitHook(MpsHook):
    """Kill the worker when MPS has accepted a submit."""

    def submit_text_to_speech(self, *arguments):
        super().submit_text_to_speech(*arguments)
        kill_worker()


class KilledAfterSubmitOperator(TextToSpeechOperator):
    """Kill the worker in the first attempt, after MPS has accepted the text and before its id is stored."""

    def execute(self, context):
        if context["ti"].try_number == 1:
            self.hook = KilledAfterSubmitHook(self.mps_conn_id, self.region)
        return super().execute(context)


class KilledWhileWaitingOperator(TextToSpeechOperator):
    """Kill the worker in the first attempt, when the wait starts."""

    def execute(self, context):
        self.is_first_attempt = context["ti"].try_number == 1
        return super().execute(context)

    def wait(self, context, task_id, interval):
        if self.is_first_attempt:
            kill_worker()
        return super().wait(context, task_id, interval)


for name, kind, arguments in (
    ("killed_after_submit", KilledAfterSubmitOperator, {"retries": 2}),
    ("killed_while_waiting", KilledWhileWaitingOperator, {"retries": 1, "wait_for_completion": True}),
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
